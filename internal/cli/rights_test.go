package cli_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// What the user may not read is said on the page, and the rest is shown.
func TestPageWithoutRights(t *testing.T) {
	for _, forbidden := range [][]string{{"pods", "leases"}, {"services"}, {"nodes", "endpointslices", "namespaces"}, {"addresspools", "addresses", "nodestates", "announcements", "bgppeers"}} {
		w := newWorld(t)
		w.forbidden = forbidden
		link := serve(t, w.client(t))
		jar, err := cookiejar.New(nil)
		must(t, err)
		client := &http.Client{Jar: jar}
		base, err := url.Parse(link)
		must(t, err)
		for _, path := range []string{link, "/", "/addresses", "/services", "/services/shop/web", "/nodes", "/pools", "/timeline", "/doctor", "/whatif"} {
			at, err := base.Parse(path)
			must(t, err)
			resp, err := client.Get(at.String())
			must(t, err)
			data, err := io.ReadAll(resp.Body)
			must(t, err)
			must(t, resp.Body.Close())
			gone := path == "/services/shop/web" && slices.Contains(forbidden, "services")
			if resp.StatusCode != http.StatusOK && !gone {
				t.Errorf("without %v, %s gets %s", forbidden, path, resp.Status)
			}
			for _, kind := range forbidden {
				if path == "/" && !strings.Contains(string(data), kind+"</strong> could not be read") {
					t.Errorf("the overview does not say that %s could not be read", kind)
				}
			}
		}
	}
}
