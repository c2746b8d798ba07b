package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// FairleadNamespace is where the chart is installed.
const FairleadNamespace = "fairlead-system"

// fairleadNamespaceManifest is what an install of version 0.1.0 asked for first.
const fairleadNamespaceManifest = `apiVersion: v1
kind: Namespace
metadata:
  name: ` + FairleadNamespace + `
  labels:
    pod-security.kubernetes.io/enforce: privileged
`

// InstallFairlead builds the product from this checkout, brings its image to
// the nodes, installs the chart, and waits until all of it is ready.
func (l *Lab) InstallFairlead(ctx context.Context) error {
	step := l.progress.Begin("fairlead: image, chart")
	return step.Done(l.installFairlead(ctx, step))
}

func (l *Lab) buildFairlead(ctx context.Context) error {
	step := l.progress.Begin("building fairlead")
	err := goBuild(ctx, step, l.Root(), shippedArgs(l.state.file("bin")))
	l.built = err == nil
	return step.Done(err)
}

func (l *Lab) installFairlead(ctx context.Context, step *Step) error {
	if !l.built {
		if err := l.buildFairlead(ctx); err != nil {
			return err
		}
	}
	step.Waiting("the image on every node")
	before, _ := os.ReadFile(l.imageFile(FairleadImage)) // none at first
	if err := WriteImage(l.imageFile(FairleadImage), FairleadImage, l.binary("fairlead"), "fairlead", l.binary("fairlead-ccm")); err != nil {
		return err
	}
	now, err := os.ReadFile(l.imageFile(FairleadImage))
	if err != nil {
		return err
	}
	if err := l.Import(ctx, l.imageFile(FairleadImage)); err != nil {
		return err
	}
	step.Waiting("helm")
	present, err := l.hasFairlead(ctx)
	if err != nil {
		return err
	}
	if _, err := l.Helm(ctx, l.chartArgs()...); err != nil {
		return err
	}
	if present && !bytes.Equal(before, now) { // the tag is the same
		if _, err := l.Kubectl(ctx, append([]string{"-n", FairleadNamespace, "rollout", "restart"}, fairleadWorkloads...)...); err != nil {
			return err
		}
	}
	return l.waitFairlead(ctx, step)
}

// InstallRevision installs fairlead of another checkout, at root, by its own chart
// and under an image tag of its own: what InstallFairlead does then is an upgrade.
func (l *Lab) InstallRevision(ctx context.Context, root, tag string) error {
	step := l.progress.Begin("fairlead of %s: image, chart", root)
	return step.Done(l.installRevision(ctx, step, root, tag))
}

func (l *Lab) installRevision(ctx context.Context, step *Step, root, tag string) error {
	ref, dir := fairleadRepository+":"+tag, l.binary("of-"+tag)
	if err := goBuild(ctx, step, root, shippedArgs(dir)); err != nil {
		return err
	}
	// The commands of version 0.1.0 were one program.
	beside, err := filepath.Glob(filepath.Join(dir, "fairlead-*"))
	if err != nil {
		return err
	}
	if err := WriteImage(l.imageFile(ref), ref, filepath.Join(dir, "fairlead"), "fairlead", beside...); err != nil {
		return err
	}
	if err := l.Import(ctx, l.imageFile(ref)); err != nil {
		return err
	}
	if err := l.apply(ctx, fairleadNamespaceManifest); err != nil {
		return err
	}
	step.Waiting("helm")
	host, port := l.ground().api() // version 0.1.0 had to be told
	args := append(fairleadChartArgs(root), "--set", "image.tag="+tag, "--set", "api.host="+host, "--set", fmt.Sprintf("api.port=%d", port))
	if _, err := l.Helm(ctx, args...); err != nil {
		return err
	}
	return l.waitFairlead(ctx, step)
}

// ImportFairlead brings the image of this checkout to the nodes under another tag.
func (l *Lab) ImportFairlead(ctx context.Context, tag string) error {
	ref := fairleadRepository + ":" + tag
	if err := WriteImage(l.imageFile(ref), ref, l.binary("fairlead"), "fairlead", l.binary("fairlead-ccm")); err != nil {
		return err
	}
	return l.Import(ctx, l.imageFile(ref))
}

// ConfigureFairlead gives the chart that InstallFairlead installed other values, each
// as helm's --set takes it. Without any it is as InstallFairlead installs it.
func (l *Lab) ConfigureFairlead(ctx context.Context, values ...string) error {
	step := l.progress.Begin("fairlead: %v", values)
	args := l.chartArgs()
	for _, v := range values {
		args = append(args, "--set", v)
	}
	step.Waiting("helm")
	if _, err := l.Helm(ctx, args...); err != nil {
		return step.Done(err)
	}
	return step.Done(l.waitFairlead(ctx, step))
}

var fairleadWorkloads = []string{"daemonset/fairlead-agent", "deployment/fairlead-controller"}

func (l *Lab) hasFairlead(ctx context.Context) (bool, error) {
	out, err := l.Kubectl(ctx, "-n", FairleadNamespace, "get", fairleadWorkloads[0], "--ignore-not-found", "-o", "name")
	return len(out) > 0, err
}

// chartArgs are those of this checkout's chart. kube-proxy is a program of the lab, not a pod:
// the agents find it by what it leaves on the nodes.
func (l *Lab) chartArgs() []string { return fairleadChartArgs(l.Root()) }

func fairleadChartArgs(root string) []string {
	return []string{"upgrade", "--install", "fairlead", filepath.Join(root, "charts", "fairlead"),
		"--namespace", FairleadNamespace, "--create-namespace", "--set", "image.tag=dev"}
}

func (l *Lab) waitFairlead(ctx context.Context, step *Step) error {
	for _, workload := range fairleadWorkloads {
		step.Waiting("%s to be ready", workload)
		if _, err := l.Kubectl(ctx, "-n", FairleadNamespace, "rollout", "status", workload, "--timeout=3m"); err != nil {
			return err
		}
	}
	return nil
}
