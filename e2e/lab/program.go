package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// program is a module below programs/ and the commands that are built from it.
type program struct {
	name     string // of the directory
	module   string // whose version names the cache entry
	commands []string
	ldflags  string // %[1]s is the version, %[2]s and %[3]s its major and minor
	tags     string // build tags, empty for none
}

const stripped = "-s -w"

// The version goes into the Kubernetes programs because charts and clients
// ask the API server for it.
const kubernetesFlags = stripped +
	" -X k8s.io/component-base/version.gitVersion=%[1]s" +
	" -X k8s.io/component-base/version.gitMajor=%[2]s" +
	" -X k8s.io/component-base/version.gitMinor=%[3]s" +
	" -X k8s.io/component-base/version.gitTreeState=clean"

// kind makes clusters of containers; only KindProgram builds it.
var kind = program{"kind", "sigs.k8s.io/kind", []string{"sigs.k8s.io/kind"}, stripped, ""}

// The commands of programs/cluster that do not belong to Kubernetes.
const (
	etcd    = "github.com/fairlead/fairlead/e2e/programs/cluster/etcd"
	coredns = "github.com/fairlead/fairlead/e2e/programs/cluster/coredns"
	helm    = "helm.sh/helm/v4/cmd/helm"
)

// cluster is programs/cluster with those of its commands that are to be built. The
// tag is that of the product's own programs: what imports grpc is compiled once.
func cluster(commands ...string) program {
	return program{"cluster", "k8s.io/kubernetes", commands, kubernetesFlags, "grpcnotrace"}
}

// kubernetes is the import path of a command of Kubernetes, such as kubelet.
func kubernetes(name string) string { return "k8s.io/kubernetes/cmd/" + name }

// wholeCluster is everything that a lab of nodes runs, kube-proxy if it is asked for. Minor
// is as in servedBy.
func wholeCluster(minor string, kubeProxy bool) []program {
	servers := []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"}
	if kubeProxy {
		servers = append(servers, "kube-proxy")
	}
	return servedBy(minor, servers, etcd, kubernetes("kubectl"), coredns, helm)
}

// servedBy is commands of programs/cluster, and programs of Kubernetes. Minor is that of an
// older Kubernetes, such as 1.29, whose programs are programs/kubernetes-MINOR; empty for
// the lab's own.
func servedBy(minor string, servers []string, commands ...string) []program {
	var imports []string
	for _, s := range servers {
		imports = append(imports, kubernetes(s))
	}
	if minor == "" {
		return []program{cluster(append(commands, imports...)...)}
	}
	older := program{"kubernetes-" + minor, "k8s.io/kubernetes", imports, kubernetesFlags, "providerless"}
	return []program{cluster(commands...), older}
}

// upstream is programs/upstream: what Kubernetes' own tests are, and kubeadm.
func upstream(commands ...string) program {
	return program{"upstream", "k8s.io/kubernetes", commands, kubernetesFlags, "grpcnotrace"}
}

// The commands of programs/upstream.
const (
	kubeadm = "k8s.io/kubernetes/cmd/kubeadm"
	suite   = "github.com/fairlead/fairlead/e2e/programs/upstream/suite"
	ginkgo  = "github.com/onsi/ginkgo/v2/ginkgo"
	agnhost = "k8s.io/kubernetes/test/images/agnhost"
	invalid = "k8s.io/kubernetes/test/images/regression-issue-74839" // sends packets that conntrack calls invalid
)

// controlPlane is etcd, the API server, and what talks to it. Minor is as in servedBy.
func controlPlane(minor string) []program {
	return servedBy(minor, []string{"kube-apiserver", "kube-controller-manager"}, etcd, kubernetes("kubectl"), helm)
}

// binary is the file name of a command.
func binary(command string) string { return path.Base(command) }

// builder builds programs into a cache.
type builder struct {
	source   string // the e2e directory
	cache    string
	progress *Progress
}

// build makes the commands of each program that the cache lacks, and returns
// the path of every command by its name.
func (b builder) build(ctx context.Context, programs ...program) (map[string]string, error) {
	paths := map[string]string{}
	for _, p := range programs {
		dir, version, err := b.entry(p)
		if err != nil {
			return nil, fmt.Errorf("build %s: %w", p.name, err)
		}
		if err := b.fill(ctx, p, dir, version); err != nil {
			return nil, fmt.Errorf("build %s: %w", p.name, err)
		}
		for _, c := range p.commands {
			paths[binary(c)] = filepath.Join(dir, binary(c))
		}
	}
	return paths, nil
}

// entry is the directory of p in the cache. Any change of its module is a new
// entry.
func (b builder) entry(p program) (dir, version string, err error) {
	source := filepath.Join(b.source, "programs", p.name)
	mod, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return "", "", err
	}
	version, err = required(mod, p.module)
	if err != nil {
		return "", "", err
	}
	key, err := hashFiles(source)
	if err != nil {
		return "", "", err
	}
	return filepath.Join(b.cache, "programs", fmt.Sprintf("%s-%s-%.12s", p.name, version, key)), version, nil
}

// hashFiles is a hash, in hex, of the names and contents of the files below a
// directory.
func hashFiles(dir string) (string, error) {
	hash := sha256.New()
	err := filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, file)
		fmt.Fprintf(hash, "%s %x\n", name, sha256.Sum256(content))
		return err
	})
	return fmt.Sprintf("%x", hash.Sum(nil)), err
}

// required finds the version of a module in a go.mod.
func required(mod []byte, module string) (string, error) {
	m := regexp.MustCompile(`(?m)^(?:require)?\s+` + regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(mod)
	if m == nil {
		return "", fmt.Errorf("go.mod does not require %s", module)
	}
	return string(m[1]), nil
}

// fill builds into a directory beside the entry and moves each finished file,
// so that the cache never holds half a program.
func (b builder) fill(ctx context.Context, p program, dir, version string) error {
	if len(missingCommands(p, dir)) == 0 {
		return nil
	}
	done, err := alone(dir)
	if err != nil {
		return err
	}
	defer done()
	missing := missingCommands(p, dir)
	if len(missing) == 0 {
		return nil // another command built them meanwhile
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".building-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	step := b.progress.Begin("building %s (%s %s)", strings.Join(binaries(missing), ", "), p.module, version)
	if err := b.compile(ctx, step, p, version, missing, temp); err != nil {
		return step.Done(err)
	}
	for _, c := range missing {
		if err := os.Rename(filepath.Join(temp, binary(c)), filepath.Join(dir, binary(c))); err != nil {
			return step.Done(err)
		}
	}
	return step.Done(nil)
}

// alone makes a directory and waits until no other command builds into it: tests of the
// lab and of the controller run side by side, and each would take minutes for the same.
func alone(dir string) (done func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func missingCommands(p program, dir string) []string {
	var missing []string
	for _, c := range p.commands {
		if _, err := os.Stat(filepath.Join(dir, binary(c))); err != nil {
			missing = append(missing, c)
		}
	}
	return missing
}

func binaries(commands []string) []string {
	names := make([]string, len(commands))
	for i, c := range commands {
		names[i] = binary(c)
	}
	return names
}

func (b builder) compile(ctx context.Context, step *Step, p program, version string, commands []string, out string) error {
	target := out + "/"
	if len(commands) == 1 {
		target += binary(commands[0])
	}
	major, minor := majorMinor(version)
	flags := p.ldflags
	if strings.Contains(flags, "%") {
		flags = fmt.Sprintf(flags, version, major, minor)
	}
	c := compilation{dir: filepath.Join(b.source, "programs", p.name), tags: p.tags, commands: commands}
	return c.run(ctx, step, "-ldflags", flags, "-o", target)
}

func majorMinor(version string) (major, minor string) {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	return parts[0], parts[1]
}
