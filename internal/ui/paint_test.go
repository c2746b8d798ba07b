//go:build linux

package ui

import (
	"context"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// What a page of a large cluster may load in all, and when it is painted at the latest, in
// milliseconds: 300 on a machine that does nothing else.
const (
	mostLoaded = 300_000
	mostPaint  = 15_000
)

// A browser paints the pages of a large cluster soon, and loads little. At rest they
// cost little: AT_REST=1m measures for how long.
func TestPaint(t *testing.T) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("REQUIRE_ROOT") == "1" {
			t.Fatal("there is no chromium: make packages")
		}
		t.Skip("there is no chromium: make packages")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Source: still{objects: large()}}, l.Addr().String())
	serving, end := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(serving, l) }()
	t.Cleanup(func() {
		end()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("no-proxy-server", true), chromedp.UserDataDir(t.TempDir()))
	ctx, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		cancel()
		stop()
	})
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 800), chromedp.Navigate(s.Link())); err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"/", "/addresses", "/services", "/services/shop/web-0", "/nodes", "/doctor"} {
		const measured = `new Promise(done => new PerformanceObserver(l => done([l.getEntries()[0].startTime, performance.getEntries().reduce((n, e) => n + (e.decodedBodySize || 0), 0)])).observe({type: 'paint', buffered: true}))`
		if err := chromedp.Do(ctx, chromedp.Navigate("http://"+l.Addr().String()+page)); err != nil {
			t.Fatal(err)
		}
		got, err := chromedp.Run(ctx, chromedp.Evaluate[[]float64](measured, chromedp.EvalAwaitPromise))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%-22s first paint after %4.0f ms, %6.0f bytes", page, got[0], got[1])
		if got[0] > mostPaint || got[1] > mostLoaded {
			t.Errorf("%s is painted after %.0f ms, and loads %.0f bytes", page, got[0], got[1])
		}
	}
	atRest(t)
}

// atRest measures what this process takes while a page is open.
func atRest(t *testing.T) {
	t.Helper()
	long, err := time.ParseDuration(os.Getenv("AT_REST"))
	if err != nil {
		return
	}
	before := used(t)
	time.Sleep(long)
	t.Logf("at rest: %.2f %% of a core", 100*float64(used(t)-before)/float64(long))
}

func used(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
