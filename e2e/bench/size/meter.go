package size

import (
	"io"
	"maps"
	"net/http"
	"path"
	"slices"
	"sync"
)

// meter counts what some clients and the API server exchange, without TLS and HTTP's
// own headers. It is safe for concurrent use.
type meter struct {
	mu      sync.Mutex
	writes  int64            // that the API server answered with success
	watched map[string]int64 // bytes of the API server's answers to watches, by resource
	listed  int64            // bytes of its other answers
}

// reading is what a meter shows at one time.
type reading struct {
	writes  int64
	watched map[string]int64
	listed  int64
}

func (m *meter) read() reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	return reading{m.writes, maps.Clone(m.watched), m.listed}
}

// since returns what was counted after was.
func (r reading) since(was reading) reading {
	out := reading{r.writes - was.writes, map[string]int64{}, r.listed - was.listed}
	for kind, n := range r.watched {
		out.watched[kind] = n - was.watched[kind]
	}
	return out
}

// bytes returns the bytes of the watches of kinds, of all without any.
func (r reading) bytes(kinds ...string) (sum int64) {
	for kind, n := range r.watched {
		if len(kinds) == 0 || slices.Contains(kinds, kind) {
			sum += n
		}
	}
	return sum
}

// wrap returns next with m in between.
func (m *meter) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		if req.Method != http.MethodGet {
			if resp.StatusCode < 300 {
				m.mu.Lock()
				m.writes++
				m.mu.Unlock()
			}
			return resp, nil
		}
		count := func(n int) { m.listed += int64(n) }
		if req.URL.Query().Get("watch") != "" {
			kind := path.Base(req.URL.Path)
			count = func(n int) { m.watched[kind] += int64(n) }
		}
		resp.Body = &counted{resp.Body, m, count}
		return resp, nil
	})
}

// counted counts what is read of a body.
type counted struct {
	io.ReadCloser
	m   *meter
	add func(int)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.add(n)
	return n, err
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// onlyServed makes every list and watch of Services and their endpoints one of those
// that have an address.
func onlyServed(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		if base := path.Base(req.URL.Path); req.Method == http.MethodGet && (base == "services" || base == "endpointslices") {
			req = req.Clone(req.Context())
			q := req.URL.Query()
			q.Set("labelSelector", served)
			req.URL.RawQuery = q.Encode()
		}
		return next.RoundTrip(req)
	})
}
