// Command kernels runs the product's kernel tests on other kernels, in QEMU.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/e2e/kernels"
	"github.com/fairlead/fairlead/e2e/lab"
)

type options struct {
	kernels, packages string
	cache, logs       string
	fresh             bool
	less              kernels.Less
	selection         kernels.Selection
}

func main() {
	var o options
	flag.StringVar(&o.kernels, "kernel", "", "series such as 5.10, separated by commas; all if empty")
	flag.StringVar(&o.packages, "pkg", strings.Join(kernels.Defaults, " "), "packages, separated by blanks")
	flag.StringVar(&o.selection.Run, "run", "", "tests, by a regular expression")
	flag.StringVar(&o.selection.Bench, "bench", "", "benchmarks, by a regular expression; then no tests without -run")
	flag.StringVar(&o.selection.BenchTime, "benchtime", "", "how long, or how often (10x), a benchmark runs")
	flag.StringVar((*string)(&o.less), "less", "", "what the guests lack: ipv6, or a module such as nft_fib_ipv6; run the tests called TestLess")
	flag.BoolVar(&o.fresh, "fresh", false, "ask for the newest version of each kernel, instead of using the cached one")
	flag.DurationVar(&o.selection.Limit, "limit", time.Hour, "of one kernel by the guest's clock")
	flag.StringVar(&o.cache, "cache", cache(), "where kernels are kept")
	flag.StringVar(&o.logs, "logs", "/var/lib/fairlead-kernels", "where the guests' output and consoles go")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1) //nolint:gocritic // the process ends: there is nothing left to stop
	}
}

func cache() string {
	top := os.Getenv(lab.CacheEnv)
	if top == "" {
		top = "/var/cache/fairlead-lab"
	}
	return filepath.Join(top, "kernels")
}

func run(ctx context.Context, o options) error {
	if runtime.GOARCH != "amd64" {
		return errors.New("the guests are amd64, and take the programs of this machine: it has to be amd64 too")
	}
	picked, err := kernels.Pick(o.kernels)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "fairlead-kernels-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	checkout, err := lab.Checkout()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.logs, 0o755); err != nil {
		return err
	}
	tests, err := kernels.Build(ctx, checkout, strings.Fields(o.packages), dir)
	if err != nil {
		return err
	}
	guest, err := kernels.BuildInit(ctx, checkout, dir)
	if err != nil {
		return err
	}
	reports, failed := make([]*kernels.Report, len(picked)), make([]error, len(picked))
	free := make(chan struct{}, kernels.AtOnce())
	var all sync.WaitGroup
	for i, k := range picked {
		all.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			reports[i], failed[i] = o.on(ctx, k, guest, tests, filepath.Join(dir, k.Series))
		})
	}
	all.Wait()
	reports = slices.DeleteFunc(reports, func(r *kernels.Report) bool { return r == nil })
	fmt.Print("\n", kernels.Table(reports))
	return errors.Join(failed...)
}

// on runs the tests with one kernel, with files in dir. The error says what did not pass.
func (o options) on(ctx context.Context, k kernels.Kernel, guest string, tests []kernels.TestProgram, dir string) (*kernels.Report, error) {
	image, err := kernels.Fetch(ctx, k, o.cache, o.fresh)
	if err != nil {
		return nil, err
	}
	emulated, limit := !kernels.Accelerated(), o.selection.Limit+time.Minute // a test program says where it was when its own limit ends it
	if emulated {
		limit *= 4 // the guest's clock, by which tests have their limit, stands still while the emulator waits
	}
	job := kernels.NewJob(kernels.Circumstances{Kernel: k, Emulated: emulated}, tests, o.selection)
	job.Env = append(job.Env, o.less.Env()...)
	initramfs, err := kernels.Initramfs(ctx, guest, tests, job)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	fmt.Printf("== kernel %s\n", image.Version)
	log, err := os.Create(filepath.Join(o.logs, k.Series+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	screen := &kernels.Screen{Out: os.Stdout, Prefix: k.Series + ": ", All: o.selection.Run != "" || o.selection.Bench != ""}
	g := kernels.Guest{
		Image: image, Initramfs: initramfs, Dir: dir, Console: filepath.Join(o.logs, k.Series+".console"),
		Less:  o.less,
		Limit: limit,
	}
	r := kernels.NewReport(image, job)
	err = g.Run(ctx, r, func(line string, failed bool) {
		fmt.Fprintln(log, line)
		screen.Heard(line, failed)
	})
	if err != nil {
		screen.Flush()
	}
	return r, errors.Join(err, r.Err())
}
