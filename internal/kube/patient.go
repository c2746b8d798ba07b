package kube

import (
	"errors"
	"net"
	"net/http"
	"time"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// askAgain is how often an informer knocks while no API server answers.
const askAgain = time.Second

// patient asks again when nobody answers what an informer asks. Left to
// themselves, informers wait ever longer, up to a minute, and so long after an
// outage of the API server no change would apply.
type patient struct {
	next  http.RoundTripper
	pause time.Duration
}

func (p *patient) RoundTrip(req *http.Request) (*http.Response, error) {
	for told := false; ; told = true {
		resp, err := p.next.RoundTrip(req)
		if err == nil || !informs(req) || !nobody(err) {
			return resp, err
		}
		if !told {
			utilruntime.HandleErrorWithContext(req.Context(), err, "No API server answers; will ask until one does", "path", req.URL.Path)
		}
		select {
		case <-req.Context().Done():
			return nil, err
		case <-time.After(p.pause):
		}
	}
}

// informs reports whether req is an informer's listing or watch. Nobody else here
// says from which version on.
func informs(req *http.Request) bool {
	q := req.URL.Query()
	return req.Method == http.MethodGet && (q.Has("watch") || q.Has("resourceVersion") || q.Has("limit"))
}

// nobody reports whether err is that no connection came about.
func nobody(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
