package kube

import (
	"context"
	"errors"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// away fails so many times with err before it answers.
type away struct {
	times, asked int
	err          error
}

func (a *away) RoundTrip(*http.Request) (*http.Response, error) {
	if a.asked++; a.asked <= a.times {
		return nil, a.err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

func TestInformersAskUntilAnAPIServerAnswers(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for _, test := range []struct {
		name, method, url string
		err               error
		asked             int // 1: the error is passed on
	}{
		{"a listing", http.MethodGet, "https://192.0.2.1/api/v1/services?limit=500&resourceVersion=0", refused, 3},
		{"a listing from no version", http.MethodGet, "https://192.0.2.1/api/v1/services?limit=500", refused, 3},
		{"a watch", http.MethodGet, "https://192.0.2.1/api/v1/services?watch=true", refused, 3},
		{"a broken connection", http.MethodGet, "https://192.0.2.1/api/v1/services?watch=true", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, 1},
		{"another error", http.MethodGet, "https://192.0.2.1/api/v1/services?watch=true", errors.New("certificate of a stranger"), 1},
		{"one object", http.MethodGet, "https://192.0.2.1/api/v1/namespaces/a/services/web", refused, 1},
		{"a write", http.MethodPut, "https://192.0.2.1/api/v1/namespaces/a/services/web/status", refused, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), test.method, test.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			next := &away{times: 2, err: test.err}
			resp, err := (&patient{next: next, pause: time.Millisecond}).RoundTrip(req)
			if err == nil {
				defer resp.Body.Close()
			}
			if passed := errors.Is(err, test.err); next.asked != test.asked || passed != (test.asked == 1) {
				t.Errorf("asked %d times, want %d; error %v", next.asked, test.asked, err)
			}
		})
	}
}

func TestInformersStopAskingAtTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://192.0.2.1/api/v1/services?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	cancel()
	if _, err := (&patient{next: &away{times: 5, err: refused}, pause: time.Hour}).RoundTrip(req); !errors.Is(err, refused) {
		t.Errorf("error = %v, want %v", err, refused)
	}
}
