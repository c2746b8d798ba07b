package ui

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead/fairlead/internal/cli/survey"
	"github.com/fairlead/fairlead/internal/server"
)

// moving is a Source that a test changes.
type moving struct {
	mu      sync.Mutex
	objects survey.Objects
	changed chan struct{}
}

func (m *moving) Objects() *survey.Objects {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.objects
	return &o
}

func (m *moving) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

func (m *moving) Refresh(context.Context) {}

func (m *moving) add(o runtime.Object) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects.All = append(m.objects.All[:len(m.objects.All):len(m.objects.All)], o)
	close(m.changed)
	m.changed = make(chan struct{})
}

// An open page gets the changes on one connection, for longer than a request may take to
// be read, and nothing while nothing changes.
func TestLive(t *testing.T) {
	m := &moving{changed: make(chan struct{}), objects: survey.Objects{Now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}}
	ts := httptest.NewUnstartedServer(nil)
	s := New(Options{Source: m}, ts.Listener.Addr().String())
	ts.Config = server.HTTP(s.Handler())
	ts.Config.ReadTimeout = 100 * time.Millisecond
	ts.Start()
	t.Cleanup(ts.Close) // after the bodies are closed: it waits for open pages
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	get := func(url string) *http.Response {
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	get(s.Link())
	_, next := pagesOf(t, get(ts.URL+"/live?at=/services?q=shop").Body)
	next("None.")
	for _, name := range []string{"one", "two"} {
		time.Sleep(2 * ts.Config.ReadTimeout) // it must pass for the test to mean something
		m.add(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP}})
		next("shop/" + name)
	}
}

// pagesOf returns the lines of a stream of events, and what waits for the next page among
// them and checks its heading.
func pagesOf(t *testing.T, stream io.Reader) (events *bufio.Scanner, next func(want string)) {
	events = bufio.NewScanner(stream)
	return events, func(want string) {
		t.Helper()
		for events.Scan() {
			if strings.HasPrefix(events.Text(), "data: <h1>") {
				if !strings.Contains(events.Text(), want) {
					t.Errorf("got %s, want %s", events.Text(), want)
				}
				return
			}
		}
		t.Fatalf("the page ends before %s: %v", want, events.Err())
	}
}
