package size

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A meter tells watches from other answers, by resource, and counts the writes that were
// made. An agent that follows a part of the Services asks for that part.
func TestMeter(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked = append(asked, req.URL.Query().Get("labelSelector"))
		if strings.Contains(req.URL.Path, "refused") {
			w.WriteHeader(http.StatusConflict)
		}
		_, _ = io.WriteString(w, "0123456789")
	}))
	defer server.Close()
	m := &meter{watched: map[string]int64{}}
	client := &http.Client{Transport: onlyServed(m.wrap(http.DefaultTransport))}
	for _, q := range []struct{ method, path string }{
		{http.MethodGet, "/api/v1/services?watch=true"}, {http.MethodGet, "/api/v1/nodes?watch=true"}, {http.MethodGet, "/api/v1/nodes"},
		{http.MethodPut, "/apis/fairlead.io/v1alpha1/nodestates/n1/status"}, {http.MethodPut, "/refused"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), q.method, server.URL+q.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	got := m.read().since(reading{})
	if got.writes != 1 || got.listed != 10 || got.bytes() != 20 || got.bytes("nodes") != 10 {
		t.Errorf("counted %+v", got)
	}
	if want := []string{served, "", "", "", ""}; fmt.Sprint(asked) != fmt.Sprint(want) {
		t.Errorf("asked for %q", asked)
	}
}
