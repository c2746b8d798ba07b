package cli_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/cli"
)

// The tests of the page in Debian's browser. It runs as root, so without its sandbox,
// and asks nothing of the world.

// patient is how long the browser may take for one step on a busy machine.
const patient = 30 * time.Second

// tab is one tab of the browser.
type tab struct {
	t    *testing.T
	ctx  context.Context
	base string
	mu   sync.Mutex
	errs []string // of the console
}

// browser starts Chromium; the test is skipped without one.
func browser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("REQUIRE_ROOT") == "1" {
			t.Fatal("there is no chromium: make packages")
		}
		t.Skip("there is no chromium: make packages")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true), chromedp.Flag("no-proxy-server", true), chromedp.UserDataDir(t.TempDir()))
	ctx, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		cancel()
		stop()
	})
	must(t, chromedp.Do(ctx, chromedp.Navigate("about:blank")))
	return ctx
}

// serve runs fairlead ui until the test ends, and returns its link.
func serve(t *testing.T, client *cli.Client, args ...string) string {
	t.Helper()
	in, out := io.Pipe()
	env := &cli.Env{Out: out, Err: io.Discard, Version: "0.1.0", Connect: func() (*cli.Client, error) { return client, nil }}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	for _, cmd := range env.Commands() {
		if cmd.Name() == "ui" {
			cmd.SetArgs(append([]string{"--no-browser"}, args...))
			go func() { done <- cmd.ExecuteContext(ctx) }()
		}
	}
	t.Cleanup(func() {
		cancel()
		_ = in.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(in).ReadString('\n')
	must(t, err)
	go func() { _, _ = io.Copy(io.Discard, in) }()
	_, rest, _ := strings.Cut(line, "http")
	return "http" + strings.TrimSpace(rest)
}

// open opens the link in a tab of its own.
func open(t *testing.T, browser context.Context, link string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx)
		cancel()
	})
	u, err := url.Parse(link)
	must(t, err)
	b := &tab{t: t, ctx: ctx, base: "http://" + u.Host}
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleException || m.Type == chromedp.ConsoleWarning {
				b.mu.Lock()
				b.errs = append(b.errs, m.String()+" "+m.URL)
				b.mu.Unlock()
			}
		}
	}()
	b.size(1280, 800)
	b.do(chromedp.Navigate(link))
	return b
}

func (b *tab) do(a ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patient)
	defer cancel()
	if err := chromedp.Do(ctx, a...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) to(path string) { b.t.Helper(); b.do(chromedp.Navigate(b.base + path)) }

func (b *tab) size(w, h int64) { b.t.Helper(); b.do(chromedp.EmulateViewport(w, h)) }

// scheme makes the browser prefer dark or light.
func (b *tab) scheme(name string) {
	b.t.Helper()
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
		return err
	}))
}

func eval[T any](b *tab, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patient)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return v
}

// waits waits until script is true. While a page gives way to another, nothing is.
func (b *tab) waits(script string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patient)
	defer cancel()
	for {
		if ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](script)); err == nil && ok {
			return
		}
		select {
		case <-ctx.Done():
			b.t.Fatalf("not in time: %s\n%s", script, eval[string](b, "document.body.innerText"))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// quiet fails the test if the console has errors.
func (b *tab) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.errs {
		b.t.Error("console:", e)
	}
	b.errs = nil
}

// picture writes a screenshot if FAIRLEAD_SCREENSHOTS names a folder.
func (b *tab) picture(name string) {
	b.t.Helper()
	folder := os.Getenv("FAIRLEAD_SCREENSHOTS")
	if folder == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	must(b.t, err)
	must(b.t, os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644))
}

// shownPages are the pages with the name of their picture.
var shownPages = []struct{ path, name string }{
	{"/", "overview"}, {"/addresses", "addresses"}, {"/addresses/192.0.2.200", "address"}, {"/services", "services"}, {"/services/shop/web", "service"},
	{"/services/shop/web?from=198.51.100.7&to=192.0.2.200:80#trace", "trace"},
	{"/nodes", "nodes"}, {"/nodes/worker-3", "node"}, {"/pools", "pools"}, {"/timeline", "timeline"}, {"/doctor", "doctor"}, {"/whatif", "whatif"},
}

// TestUI looks at the page in a browser.
func TestUI(t *testing.T) {
	chrome := browser(t)
	t.Run("pages", func(t *testing.T) { testPages(t, chrome) })
	t.Run("keyboard", func(t *testing.T) { testKeyboard(t, chrome) })
	t.Run("live", func(t *testing.T) { testLive(t, chrome) })
	t.Run("reasons", func(t *testing.T) { testReasons(t, chrome) })
	t.Run("hostile", func(t *testing.T) { testHostile(t, chrome) })
}

// Every page has its landmarks, fits a phone, is dark where that is preferred, and asks
// the console for nothing.
func testPages(t *testing.T, chrome context.Context) {
	b := open(t, chrome, serve(t, nil, "--demo"))
	for _, p := range shownPages {
		b.to(p.path)
		b.sound(p.path)
		b.picture(p.name)
		b.size(360, 740)
		b.fits(p.path)
		b.picture(p.name + "-phone")
		b.size(1280, 800)
		light := eval[string](b, "getComputedStyle(document.body).backgroundColor")
		b.scheme("dark")
		if dark := eval[string](b, "getComputedStyle(document.body).backgroundColor"); dark == light {
			t.Errorf("%s is %s in the dark too", p.path, dark)
		}
		b.picture(p.name + "-dark")
		b.scheme("light")
	}
	b.quiet()
}

// sound checks what a screen reader needs.
func (b *tab) sound(path string) {
	b.t.Helper()
	for what, script := range map[string]string{
		"one h1":                  "document.querySelectorAll('h1').length === 1",
		"landmarks":               "!!document.querySelector('header') && !!document.querySelector('nav[aria-label]') && !!document.querySelector('main') && !!document.querySelector('footer')",
		"a current page":          "location.pathname.split('/').length > 2 || document.querySelectorAll('nav [aria-current=page]').length === 1",
		"a live region":           "!!document.querySelector('[aria-live=polite]')",
		"labels":                  "[...document.querySelectorAll('input,select,textarea')].every(e => e.labels.length > 0)",
		"names of links":          "[...document.querySelectorAll('a,button')].every(e => (e.textContent || '').trim() !== '')",
		"no id twice":             "new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size === document.querySelectorAll('[id]').length",
		"no request to elsewhere": "performance.getEntriesByType('resource').every(e => e.name.startsWith(location.origin))",
		"headings in order":       "[...document.querySelectorAll('h1,h2,h3')].every((e, i, all) => i === 0 ? e.tagName === 'H1' : e.tagName[1] - all[i-1].tagName[1] <= 1)",
	} {
		if !eval[bool](b, script) {
			b.t.Errorf("%s lacks: %s", path, what)
		}
	}
}

// fits checks that nothing but tables is wider than the screen.
func (b *tab) fits(path string) {
	b.t.Helper()
	if w := eval[int](b, "document.documentElement.scrollWidth"); w > 360 {
		b.t.Errorf("%s is %d pixels wide on a phone", path, w)
	}
}

// A person without a mouse gets from the overview to a Service and its trace.
func testKeyboard(t *testing.T, chrome context.Context) {
	b := open(t, chrome, serve(t, nil, "--demo"))
	b.press("\t")
	if got := eval[string](b, "document.activeElement.textContent"); got != "Skip to the content" {
		t.Fatalf("the first stop is %q", got)
	}
	if eval[int](b, "document.activeElement.getBoundingClientRect().left") < 0 {
		t.Error("the focused link is not seen")
	}
	b.press("\r")
	b.until("document.activeElement.matches('.finding a')")
	if got := eval[string](b, "getComputedStyle(document.activeElement).outlineStyle"); got != "solid" {
		t.Errorf("the focus is shown as %q", got)
	}
	b.press("\r")
	b.waits("location.pathname === '/services/shop/web' && document.readyState === 'complete'")
	b.until("document.activeElement.id === 'from'")
	b.press("198.51.100.7\r")
	b.waits("location.search.includes('198.51.100.7') && !!document.querySelector('#answer')")
	b.quiet()
}

func (b *tab) press(keys string) { b.t.Helper(); b.do(chromedp.KeyEvent(keys)) }

// until presses Tab until script is true.
func (b *tab) until(script string) {
	b.t.Helper()
	for range 80 {
		if eval[bool](b, script) {
			return
		}
		b.press("\t")
	}
	b.t.Fatalf("Tab does not lead to: %s", script)
}

// A change in the cluster is on the page without reloading it.
func testLive(t *testing.T, chrome context.Context) {
	w := newWorld(t)
	client := w.client(t)
	b := open(t, chrome, serve(t, client))
	b.waits("document.querySelector('.verdict').innerText.includes('no problems found')")
	eval[int](b, "window.stays = 1")
	nodes := client.Dynamic.Resource(v1alpha1.GroupVersion.WithResource("nodestates"))
	obj, err := nodes.Get(t.Context(), "worker-3", metav1.GetOptions{})
	must(t, err)
	must(t, unstructured.SetNestedSlice(obj.Object, nil, "status", "announces"))
	began := time.Now()
	_, err = nodes.Update(t.Context(), obj, metav1.UpdateOptions{})
	must(t, err)
	b.waits("document.querySelector('.verdict').innerText.includes('1 problem') && document.querySelector('[aria-live]').textContent.includes('1 problem')")
	t.Logf("on the page after %v", time.Since(began).Round(time.Millisecond))
	if !eval[bool](b, "window.stays === 1") {
		t.Error("the page was loaded again")
	}
	b.quiet()
}

// Names that are markup, very long or turn text around are shown as text.
func testHostile(t *testing.T, chrome context.Context) {
	w := newWorld(t)
	long := strings.Repeat("m", 63)
	w.change(t, fmt.Sprintf(hostileObjects, long, long, long))
	client := w.client(t)
	b := open(t, chrome, serve(t, client))
	for _, path := range []string{"/", "/services", "/services/" + long + "/" + long, "/addresses", "/addresses?q=%3Cscript%3Ewindow.bad=1%3C/script%3E", "/nodes", "/nodes/worker-1", "/pools", "/doctor", "/services/%3Cscript%3E/x"} {
		b.to(path)
		if eval[bool](b, "window.bad === 1 || [...document.scripts].some(s => !s.src.startsWith(location.origin + '/static/')) || !!document.querySelector('#main img')") {
			t.Errorf("%s runs what an object says", path)
		}
		if eval[bool](b, `/[\u202e\u2066\u200f]/.test(document.body.innerText)`) {
			t.Errorf("%s turns text around", path)
		}
		b.size(360, 740)
		b.fits(path)
		b.size(1280, 800)
	}
	if !strings.Contains(eval[string](b, "document.title"), "Not found") {
		t.Error("a Service that is not there is found")
	}
	b.mu.Lock()
	b.errs = nil // a page that is not there is an entry of the console
	b.mu.Unlock()
}

const hostileObjects = `apiVersion: v1
kind: Namespace
metadata: {name: %s}
---
apiVersion: v1
kind: Service
metadata:
  namespace: %s
  name: %s
  uid: uid-hostile
  annotations: {fairlead.io/pool: "<script>window.bad=1</script>\u202e<img src=x onerror=window.bad=1>"}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.66
  clusterIPs: [10.96.0.66]
  ipFamilies: [IPv4]
  ports: [{port: 80, protocol: TCP}]
---
apiVersion: fairlead.io/v1alpha1
kind: NodeState
metadata: {name: worker-1}
status: {engine: {inSync: false, message: "<script>window.bad=1</script>\u202e\u05e9\u05dc\u05d5\u05dd <img src=x onerror=window.bad=1>"}}
`
