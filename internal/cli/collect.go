package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/status"
	"github.com/fairlead/fairlead/internal/cli/survey"
)

// logLines is how much of each container's log is kept.
const logLines = 5000

func (e *Env) collect() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "collect [--file FILE]", Args: cobra.NoArgs,
		Short: "Write a support archive without secrets",
		Long: `collect writes what a helper needs into one archive (tar.gz):
fairlead's own objects, the Services and EndpointSlices of type LoadBalancer, nodes
without their labels' values, Events about them, the output of status and doctor,
versions, and the logs of fairlead's pods. It never reads a Secret. Values of
annotations that are not fairlead's or MetalLB's and of all environment variables
are replaced. Look through it before you pass it on: names and addresses are in it.`,
		Example: "  fairlead collect --file fairlead-support.tar.gz",
	}
	cmd.Flags().StringVar(&file, "file", "", "where to write to; empty: fairlead-TIME.tar.gz here, -: standard output")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		o, c, err := e.read(cmd.Context())
		if err != nil {
			return blind(err)
		}
		if file == "" {
			file = "fairlead-" + o.Now.UTC().Format("20060102-150405") + ".tar.gz"
		}
		out := e.Out
		if file != "-" {
			f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return blind(err)
			}
			defer func() {
				if end := f.Close(); err == nil {
					err = blind(end)
				}
			}()
			out = f
		}
		n, err := e.archive(cmd.Context(), out, o, c)
		if err != nil {
			return blind(fmt.Errorf("write %s: %w", file, err))
		}
		fmt.Fprintf(e.Err, "%s: %s. Names and addresses are in it; look through it before you pass it on\n", file, cluster.Count(n, "file"))
		return nil
	}
	return cmd
}

// bundle writes files into a tar.gz.
type bundle struct {
	*tar.Writer
	at time.Time
	n  int
}

func (b *bundle) add(name string, data []byte) error {
	b.n++
	head := &tar.Header{Name: "fairlead/" + name, Mode: 0o600, Size: int64(len(data)), ModTime: b.at}
	if err := b.WriteHeader(head); err != nil {
		return err
	}
	_, err := b.Write(data)
	return err
}

func (e *Env) archive(ctx context.Context, w io.Writer, o *survey.Objects, c *Client) (int, error) {
	zip := gzip.NewWriter(w)
	b := &bundle{Writer: tar.NewWriter(zip), at: o.Now}
	s := o.State()
	var text bytes.Buffer
	screen{&text, false}.status(status.Of(s), true)
	if err := b.add("status.txt", text.Bytes()); err != nil {
		return 0, err
	}
	text.Reset()
	screen{&text, false}.findings(doctor.Cluster(s))
	if err := b.add("doctor.txt", text.Bytes()); err != nil {
		return 0, err
	}
	if err := e.versions(b, c); err != nil {
		return 0, err
	}
	if err := b.objects(o.Support()); err != nil {
		return 0, err
	}
	if err := b.events(ctx, c, s); err != nil {
		return 0, err
	}
	if err := b.logs(ctx, c, s); err != nil {
		return 0, err
	}
	if err := b.Close(); err != nil {
		return 0, err
	}
	return b.n, zip.Close()
}

func (e *Env) versions(b *bundle, c *Client) error {
	server := "unknown"
	if v, err := c.Kube.Discovery().ServerVersion(); err == nil {
		server = v.String()
	}
	return b.add("versions.txt", fmt.Appendf(nil, "command: %s\nkubernetes: %s\n", e.Version, server))
}

// objects writes one YAML file a kind.
func (b *bundle) objects(all []runtime.Object) error {
	files := map[string][]byte{}
	var order []string
	for _, obj := range all {
		kind := strings.ToLower(obj.GetObjectKind().GroupVersionKind().Kind)
		data, err := yaml.Marshal(obj)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		if files[kind] == nil {
			order = append(order, kind)
		}
		files[kind] = append(append(files[kind], "---\n"...), data...)
	}
	for _, kind := range order {
		if err := b.add("objects/"+kind+".yaml", files[kind]); err != nil {
			return err
		}
	}
	return nil
}

// events writes those about Services and fairlead's own objects, a line each.
func (b *bundle) events(ctx context.Context, c *Client, s *cluster.State) error {
	list, err := c.Kube.CoreV1().Events("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return b.add("events.txt", []byte("could not be read: "+err.Error()+"\n"))
	}
	var out bytes.Buffer
	for _, ev := range list.Items {
		about := ev.InvolvedObject
		if about.Kind != "Service" && about.Namespace != s.Namespace && !strings.HasPrefix(about.APIVersion, "fairlead.io/") {
			continue
		}
		fmt.Fprintf(&out, "%s %s %s %s/%s %s: %s (%d times)\n", ev.LastTimestamp.UTC().Format(time.RFC3339), ev.Type, about.Kind, about.Namespace, about.Name, ev.Reason, ev.Message, max(ev.Count, 1))
	}
	return b.add("events.txt", out.Bytes())
}

// logs writes the last lines of every container of fairlead's, and of its last
// run if it was restarted.
func (b *bundle) logs(ctx context.Context, c *Client, s *cluster.State) error {
	lines := int64(logLines)
	for _, p := range s.Pods {
		for _, previous := range []bool{false, true} {
			if previous && p.Restarts == 0 {
				continue
			}
			name := "logs/" + p.Name + ".log"
			if previous {
				name = "logs/" + p.Name + ".previous.log"
			}
			data, err := c.Kube.CoreV1().Pods(s.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{TailLines: &lines, Previous: previous}).DoRaw(ctx)
			if err != nil {
				data = []byte("could not be read: " + err.Error() + "\n")
			}
			if err := b.add(name, data); err != nil {
				return err
			}
		}
	}
	return nil
}
