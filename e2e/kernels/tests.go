package kernels

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// module is the product's.
const module = "github.com/fairlead/fairlead/"

// spaces is the package that every kernel test imports.
const spaces = module + "internal/test/nstest"

// Defaults are the packages whose kernel tests run when nobody names others.
var Defaults = []string{"./proxy/...", "./nodeport/...", "./announcer/l2/..."}

// TestProgram is a built test program.
type TestProgram struct {
	Package string // such as proxy/ebpf
	File    string // on this machine
	Source  string // the package's directory on this machine
}

// Build builds the test programs of those packages that have kernel tests into a
// directory. A program without cgo has everything in it.
func Build(ctx context.Context, checkout string, patterns []string, dir string) ([]TestProgram, error) {
	packages, err := kernelTests(ctx, checkout, patterns)
	if err != nil {
		return nil, err
	}
	var built []TestProgram
	for _, pkg := range packages {
		t := TestProgram{pkg, filepath.Join(dir, strings.ReplaceAll(pkg, "/", "-")), filepath.Join(checkout, pkg)}
		if err := goRun(ctx, checkout, "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", t.File, "./"+pkg); err != nil {
			return nil, err
		}
		built = append(built, t)
	}
	return built, nil
}

// kernelTests are the packages of the patterns whose tests make network namespaces.
func kernelTests(ctx context.Context, checkout string, patterns []string) ([]string, error) {
	const format = `{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}}`
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-f", format}, patterns...)...)
	cmd.Dir, cmd.Stderr = checkout, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", strings.Join(patterns, " "), err)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		for _, imported := range fields[1:] {
			if imported == spaces {
				found = append(found, strings.TrimPrefix(fields[0], module))
				break
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: no package with kernel tests, which import %s", strings.Join(patterns, " "), spaces)
	}
	return found, nil
}

// BuildInit builds the guest's first process.
func BuildInit(ctx context.Context, checkout, dir string) (string, error) {
	file := filepath.Join(dir, "init")
	return file, goRun(ctx, filepath.Join(checkout, "e2e"), "build", "-trimpath", "-ldflags=-s -w", "-o", file, "./cmd/guest")
}

func goRun(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS="+os.Getenv("GOFLAGS")+" -buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Where a guest has the test programs, and the directories that these start in.
const (
	guestPrograms = "tests"
	guestSource   = "src"
)

func (t TestProgram) addTo(a *archive) error {
	if err := a.addFile(path.Join(guestPrograms, filepath.Base(t.File)), t.File); err != nil {
		return err
	}
	dir := path.Join(guestSource, t.Package)
	a.dir(dir)
	data := filepath.Join(t.Source, "testdata")
	if _, err := os.Stat(data); err != nil {
		return nil //nolint:nilerr // a package without testdata
	}
	return a.addTree(data, path.Join(dir, "testdata"))
}

// Selection is which tests and benchmarks run.
type Selection struct {
	Run, Bench, BenchTime string        // as go test has them
	Limit                 time.Duration // of one test program
}

// before makes a guest a node:
//   - Bridges of pods give their packets to netfilter, as Kubernetes asks of nodes.
//   - The first transaction would load these modules one by one, and begin again after
//     each. In an emulator this takes longer than the engine waits for an answer.
//   - The helpers' modules are what docs/networks.md asks of a node that has helpers. The
//     kernel loads those that track connections by itself, and not those that translate.
var before = [][]string{
	{"ip", "link", "set", "lo", "up"},
	{"modprobe", "-a", "br_netfilter", "nf_conntrack"},
	{"modprobe", "-a", "nf_nat_ftp", "nf_nat_tftp"},
	{"modprobe", "-aq", "nft_chain_nat", "nft_ct", "nft_fib_inet", "nft_hash", "nft_masq", "nft_nat", "nft_numgen", "nft_reject_inet", "nf_conntrack_netlink"},
}

// conntrackMax is how many connections a guest tracks: more than tests want, which is
// 100,000 or in an emulator a tenth of that, and few because one test fills the table.
func conntrackMax(emulated bool) int {
	if emulated {
		return 12_000
	}
	return 120_000
}

// NewJob is what a guest does: all test programs, without the tests that exceptions
// name.
func NewJob(c Circumstances, tests []TestProgram, s Selection) Job {
	var packages []string
	for _, t := range tests {
		packages = append(packages, t.Package)
	}
	job := Job{Left: c.Hold(packages)}
	job.Before = append(slices.Clone(before), []string{"sysctl", "-qw", fmt.Sprintf("net.netfilter.nf_conntrack_max=%d", conntrackMax(c.Emulated))})
	job.Env = []string{nstest.OwnClockEnv + "=1"}
	if c.Emulated {
		job.Env = append(job.Env, nstest.EmulatedEnv+"=1")
	}
	for _, t := range tests {
		args := s.arguments()
		if skip := skipped(job.Left, t.Package); skip != "" {
			args = append(args, "-test.skip="+skip)
		}
		job.Runs = append(job.Runs, Run{
			Package: t.Package, Program: "/" + path.Join(guestPrograms, filepath.Base(t.File)),
			Dir: "/" + path.Join(guestSource, t.Package), Args: args,
		})
	}
	return job
}

// arguments are those of a test program. Who names benchmarks alone wants no tests.
func (s Selection) arguments() []string {
	args := []string{"-test.v", "-test.timeout=" + s.Limit.String()}
	if s.Bench != "" {
		args = append(args, "-test.bench="+s.Bench, "-test.benchmem")
	}
	if s.Bench != "" && s.Run == "" {
		s.Run = "^$"
	}
	if s.BenchTime != "" {
		args = append(args, "-test.benchtime="+s.BenchTime)
	}
	if s.Run != "" {
		args = append(args, "-test.run="+s.Run)
	}
	return args
}
