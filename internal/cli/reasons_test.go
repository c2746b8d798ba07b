package cli_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"html"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/fairlead/fairlead/internal/cli/demo"
	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/explain"
	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/ui/page"
)

// reasons returns the values of all constants of the type snapshot.Reason in a package.
func reasons(t *testing.T, folder string) []string {
	t.Helper()
	var out []string
	files, err := filepath.Glob(folder + "/*.go")
	must(t, err)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		must(t, err)
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.CONST {
				continue
			}
			for _, s := range decl.Specs {
				v := s.(*ast.ValueSpec)
				if of, ok := v.Type.(*ast.SelectorExpr); ok && of.Sel.Name == "Reason" {
					value, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
					must(t, err)
					out = append(out, value)
				}
			}
		}
	}
	return out
}

// decided are the packages that have reasons.
var decided = []string{"../../allocator", "../../announcer", "../../announcer/bgp", "../../internal/egress", "../../nodeport", "../../proxy"}

// telling are the stories that have reasons.
var telling = regexp.MustCompile(`^(refused-.*|refusals|warned|pools-overlap|elected-and-silent|outside-networks|no-endpoints|works)$`)

// shows is where a page shows something: the demo's cluster, and the links to follow.
type shows struct {
	story string
	links []string
}

// Every reason is reached from the overview by two links, and seen without scrolling.
func testReasons(t *testing.T, chrome context.Context) {
	link := serve(t, nil, "--demo")
	all := map[string]bool{}
	for _, folder := range decided {
		for _, r := range reasons(t, folder) {
			all[r] = true
		}
	}
	b := open(t, chrome, link)
	places := map[string][]shows{}
	for _, c := range clusters(t) {
		if telling.MatchString(c.Name) {
			crawl(b, c.Name, all, places)
		}
	}
	found := map[string]bool{}
	for _, r := range slices.Sorted(maps.Keys(all)) {
		for _, at := range places[r] {
			if !found[r] {
				b.look(at, all, found)
			}
		}
		if all[r] && !found[r] {
			t.Errorf("%s is not seen within two links from the overview; it is in %v", r, places[r])
		}
	}
	t.Logf("%d reasons are seen", len(found))
	b.quiet()
}

// most is how many places of one reason are looked at.
const most = 2

var href = regexp.MustCompile(`href="(/[^"]*)"`)

// crawl notes on which pages within two links the words are. It reads them from within
// the browser, which has the cookie.
func crawl(b *tab, story string, words map[string]bool, places map[string][]shows) {
	b.t.Helper()
	if !slices.ContainsFunc(slices.Collect(maps.Keys(words)), func(w string) bool { return words[w] && len(places[w]) < most }) {
		return
	}
	b.to("/story?name=" + url.QueryEscape(story))
	seen := map[string]bool{"/": true}
	for queue := [][]string{nil}; len(queue) > 0; queue = queue[1:] {
		links := queue[0]
		text := b.read(slices.Concat([]string{"/"}, links)[len(links)])
		_, main, _ := strings.Cut(text, "<main")
		for w, wanted := range words {
			if wanted && len(places[w]) < most && regexp.MustCompile(`\b`+w+`\b`).MatchString(main) {
				places[w] = append(places[w], shows{story, links})
			}
		}
		for _, m := range href.FindAllStringSubmatch(text, -1) {
			to := html.UnescapeString(m[1])
			if len(links) < 2 && !seen[to] && !strings.HasPrefix(to, "/static/") {
				seen[to] = true
				queue = append(queue, append(slices.Clone(links), to))
			}
		}
	}
}

// read returns the page at path as text.
func (b *tab) read(path string) string {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.base+path, nil)
	must(b.t, err)
	for _, c := range b.cookies() {
		r.AddCookie(c)
	}
	resp, err := http.DefaultClient.Do(r)
	must(b.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(b.t, err)
	return string(data)
}

// cookies are those of the browser for this page.
func (b *tab) cookies() (out []*http.Cookie) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		r, err := cdp.Call(ctx, t, network.GetCookies, network.GetCookiesParams{URLs: []string{b.base}})
		if err != nil {
			return err
		}
		for _, c := range r.Cookies {
			out = append(out, &http.Cookie{Name: c.Name, Value: c.Value})
		}
		return nil
	}))
	return out
}

// look follows the links in the browser, and notes which of the words are then in sight.
func (b *tab) look(at shows, words, found map[string]bool) {
	b.t.Helper()
	b.to("/story?name=" + url.QueryEscape(at.story))
	for _, to := range at.links {
		if !eval[bool](b, fmt.Sprintf("(() => { const a = [...document.querySelectorAll('a:not(.box)')].find(a => a.getAttribute('href') === %q); if (a) a.click(); return !!a })()", to)) {
			b.t.Errorf("%v: there is no link to %s", at, to)
			return
		}
		path, _, _ := strings.Cut(to, "?")
		b.waits(fmt.Sprintf("location.pathname === %q && document.readyState === 'complete'", path))
	}
	for w, wanted := range words {
		if wanted && !found[w] && eval[bool](b, fmt.Sprintf(inSight, w, len(w))) {
			found[w] = true
		}
	}
}

// inSight reports whether a word of so many characters is on the screen.
const inSight = `(() => {
	const walk = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
	for (let n; n = walk.nextNode();) {
		const i = n.data.search(/\b%s\b/);
		if (i < 0) continue;
		const r = document.createRange(); r.setStart(n, i); r.setEnd(n, i + %d);
		const at = r.getBoundingClientRect();
		if (at.width > 5 && at.top >= 0 && at.bottom <= innerHeight && at.left >= 0 && at.right <= innerWidth) return true;
	}
	return false })()`

// clusters are those of the demo.
func clusters(t *testing.T) []*demo.Cluster {
	t.Helper()
	all, err := demo.Clusters(os.DirFS("testdata"))
	must(t, err)
	return all
}

var tag = regexp.MustCompile(`<[^>]*>`)

// said returns the text of a page, without tags.
func said(t *testing.T, p page.Page) string {
	t.Helper()
	var b strings.Builder
	must(t, p.Live.Render(&b))
	return html.UnescapeString(tag.ReplaceAllString(b.String(), ""))
}

// What the pages say of each cluster of the stories is what the commands say of it.
func TestPagesSayWhatCommandsSay(t *testing.T) {
	n := 0
	for _, c := range clusters(t) {
		s := c.Objects().State()
		over, doc := said(t, page.Overview(s)), said(t, page.Doctor(s, 0))
		found := doctor.Cluster(s)
		for i, f := range found {
			text := string(f.Code) + " " + plain.Text(f.Message)
			if !strings.Contains(doc, text) || i < 8 && !strings.Contains(over, text) || f.Next != "" && !strings.Contains(doc, "Next: "+plain.Text(f.Next)) {
				t.Errorf("%s: no page says %s", c.Name, text)
			}
		}
		if !strings.Contains(over, doctor.Summary(found)) {
			t.Errorf("%s: the overview does not say %q", c.Name, doctor.Summary(found))
		}
		for _, svc := range s.Services {
			trace, _ := explain.Explain(s, svc.Ref)
			text := said(t, page.Service(s, svc.Ref, page.Asked{}))
			for _, want := range sentences(trace) {
				if n++; !strings.Contains(text, plain.Text(want)) {
					t.Errorf("%s: the page of %s does not say %q", c.Name, svc.Ref, want)
				}
			}
		}
	}
	if n < 500 {
		t.Errorf("%d sentences: are there no stories?", n)
	}
}

// sentences are all that explain prints.
func sentences(t *explain.Trace) []string {
	out := []string{t.Title, t.Verdict, "Next: " + t.Next}
	for _, s := range t.Steps {
		out = append(out, string(s.Mark)+": "+s.Name+" "+s.Text)
		for _, d := range s.Details {
			out = append(out, string(d.Mark)+": "+d.Name+" "+d.Text)
		}
	}
	return out
}
