package stories

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
	"github.com/fairlead/fairlead/internal/test/asktest"
)

// apiVIP is the address of the stacked control plane, outside of every pool.
const apiVIP = "198.18.0.99"

// apiCalls is what a client got that asks an API server all the time, each time by a new
// connection.
type apiCalls struct {
	gap   time.Duration // the longest time without a good answer
	good  int
	other map[string]int // other outcomes, by kind
}

// askAPI has the client ask for /livez at the VIP every 20 ms until stop is called.
func askAPI(t *testing.T) (stop func() apiCalls) {
	t.Helper()
	end := make(chan struct{})
	got := apiCalls{other: map[string]int{}}
	var wg sync.WaitGroup
	var failed error
	wg.Go(func() {
		failed = cluster(t).AtClient(func() error {
			last := time.Now()
			for {
				select {
				case <-end:
					got.gap = max(got.gap, time.Since(last))
					return nil
				case <-time.After(20 * time.Millisecond):
				}
				if err := livez(apiVIP); err != nil {
					got.other[err.Error()]++
					continue
				}
				got.gap, last = max(got.gap, time.Since(last)), time.Now()
				got.good++
			}
		})
	})
	return func() apiCalls {
		close(end)
		wg.Wait()
		if failed != nil {
			t.Fatal(failed)
		}
		return got
	}
}

// livez asks once, on this goroutine alone.
func livez(ip string) error {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip, fmt.Sprint(lab.APIPort)), 250*time.Millisecond)
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("not connected")
	case err != nil:
		return errors.New("refused")
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // who answers is not the question
	if _, err := io.WriteString(c, "GET /livez HTTP/1.0\r\n\r\n"); err != nil {
		return errors.New("lost")
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return errors.New("lost")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// apiOwner returns the node that answers ARP for the VIP, once that is one node and its
// kube-apiserver lives.
func apiOwner(t *testing.T) (node string) {
	t.Helper()
	eventually(t, settled, "one node has "+apiVIP, func(context.Context) error {
		stop := ask(t, []string{apiVIP})
		time.Sleep(time.Second)
		macs := stop()[netip.MustParseAddr(apiVIP)].Moves()
		if len(macs) != 1 {
			return fmt.Errorf("answered by %v", macs)
		}
		node = cluster(t).NodeAt(macs[0])
		return cluster(t).AtClient(func() error { return livez(apiVIP) })
	})
	return node
}

// row is one thing that happens to the control plane.
type row struct {
	name  string
	do    func(t *testing.T, s *lab.Stacked, owner string)
	done  func(t *testing.T, s *lab.Stacked, owner string) // what ends it; the client asks until then
	moves bool
	dark  bool // no kube-apiserver can answer meanwhile
}

// rows are what the story does, one after the other.
func rows() []row {
	stays := func(t *testing.T, _ *lab.Stacked, _ string) { t.Helper(); apiOwner(t) }
	return []row{
		{name: "nothing", done: stays},
		{name: "its kube-apiserver is killed", moves: true, done: apiMoved, do: func(t *testing.T, s *lab.Stacked, owner string) {
			t.Helper()
			succeed(t, s.Stop(t.Context(), owner, lab.StackedAPI))
		}},
		{name: "its kubelet stands still", do: signalKubelet("STOP"), done: func(t *testing.T, s *lab.Stacked, owner string) {
			t.Helper()
			apiOwner(t)
			signalKubelet("CONT")(t, s, owner)
		}},
		{name: "etcd has no quorum", dark: true, do: endQuorum, done: func(t *testing.T, s *lab.Stacked, owner string) {
			t.Helper()
			for _, n := range othersOf(t, owner) {
				succeed(t, s.Start(n, lab.StackedEtcd))
			}
			apiOwner(t)
		}},
		{name: "it loses power", moves: true, done: apiMoved, do: func(t *testing.T, _ *lab.Stacked, owner string) {
			t.Helper()
			powerOff(t, owner)
		}},
		{name: "all lose power", dark: true, moves: true, do: rebootAll, done: stays},
	}
}

// succeed ends the story at an error.
func succeed(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// apiMoved waits until another node has the VIP.
func apiMoved(t *testing.T, _ *lab.Stacked, owner string) {
	t.Helper()
	eventually(t, settled, "another node", func(context.Context) error {
		if now := apiOwner(t); now == owner {
			return errors.New("still " + owner)
		}
		return nil
	})
}

func signalKubelet(name string) func(*testing.T, *lab.Stacked, string) {
	return func(t *testing.T, _ *lab.Stacked, owner string) {
		t.Helper()
		_, err := cluster(t).Exec(t.Context(), owner, "sh", "-c", "kill -"+name+" $(pidof kubelet)")
		succeed(t, err)
	}
}

func othersOf(t *testing.T, owner string) []string {
	t.Helper()
	return slices.DeleteFunc(cluster(t).Nodes(), func(n string) bool { return n == owner })
}

// endQuorum leaves the owner's etcd alone until no kube-apiserver lives, and for a while.
func endQuorum(t *testing.T, s *lab.Stacked, owner string) {
	t.Helper()
	for _, n := range othersOf(t, owner) {
		succeed(t, s.Stop(t.Context(), n, lab.StackedEtcd))
	}
	eventually(t, settled, "no kube-apiserver lives", func(context.Context) error {
		if cluster(t).AtClient(func() error { return livez(apiVIP) }) == nil {
			return errors.New("it answers")
		}
		return nil
	})
	time.Sleep(5 * time.Second) // that long the address is watched
}

// rebootAll cuts the power of all nodes, and starts them again.
func rebootAll(t *testing.T, s *lab.Stacked, _ string) {
	t.Helper()
	l := cluster(t)
	for _, n := range l.Nodes() {
		powerOff(t, n)
	}
	for _, n := range l.Nodes() {
		succeed(t, l.PowerOnNode(t.Context(), n))
	}
	succeed(t, s.StartNodes(l.Nodes()...))
}

// TestStaticPodGivesTheAPIServerItsAddress: a kubelet runs the printed manifest before there
// is a kube-apiserver. Once one lives, the address answers. Without the pod, nobody has it.
func TestStaticPodGivesTheAPIServerItsAddress(t *testing.T) {
	l := cluster(t)
	node := l.Nodes()[0]
	s, err := l.Stack(t.Context(), apiVIP, node)
	undo(t, s.Remove)
	succeed(t, err)
	if owner := apiOwner(t); owner != node {
		t.Errorf("%s is at %s, want %s", apiVIP, owner, node)
	}
	kubectl(t, "--namespace=kube-system", "wait", "--for=create", "--timeout=2m", "pod/fairlead-control-plane-"+node)
	kubectl(t, "--namespace=kube-system", "wait", "--for=condition=Ready", "--timeout=2m", "pod/fairlead-control-plane-"+node)
	for _, name := range []string{"fairlead_control_plane_fit", "fairlead_control_plane_owner"} {
		if value, err := l.Metric(t.Context(), node, "127.0.0.1:9813", name); err != nil || value != 1 {
			t.Errorf("%s is %v: %v", name, value, err)
		}
	}
	succeed(t, s.Dismiss(t.Context(), node))
	stop := ask(t, []string{apiVIP})
	time.Sleep(time.Second)
	if macs := stop()[netip.MustParseAddr(apiVIP)].Moves(); len(macs) != 0 {
		t.Errorf("%s is still at %v", apiVIP, macs)
	}
}

// TestControlPlane: three control planes with an etcd each, and fairlead's agents beside
// them. A client asks the API server's address every 20 ms, and for its MAC. One node has
// the address, whatever happens to whom.
func TestControlPlane(t *testing.T) {
	l := cluster(t)
	if os.Getenv("FAIRLEAD_E2E_ALL") == "" {
		t.Skip("takes a minute; make e2e WHAT=control-plane runs it")
	}
	s, err := l.Stack(t.Context(), apiVIP, l.Nodes()...)
	undo(t, s.Remove)
	succeed(t, err)
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) { r.try(t, s) })
		mend(t, s)
	}
}

// mend makes whole what a row broke.
func mend(t *testing.T, s *lab.Stacked) {
	t.Helper()
	l := cluster(t)
	for _, n := range l.Nodes() {
		switch {
		case !l.NodeRuns(n):
			succeed(t, l.StartNode(t.Context(), n), s.StartNodes(n))
		case !s.Runs(n, lab.StackedAPI):
			succeed(t, s.Start(n, lab.StackedAPI))
		}
	}
	for _, n := range l.Nodes() {
		succeed(t, s.WaitReady(t.Context(), n))
	}
}

// try does what the row says while the client asks.
func (r row) try(t *testing.T, s *lab.Stacked) {
	owner := apiOwner(t)
	calls, heard := askAPI(t), ask(t, []string{apiVIP})
	time.Sleep(time.Second)
	if r.do != nil {
		r.do(t, s, owner)
	}
	r.done(t, s, owner)
	got := calls()
	end := time.Now()
	arp := heard()[netip.MustParseAddr(apiVIP)]
	r.judge(t, owner, got, arp, end)
	if t.Failed() {
		for _, n := range cluster(t).Nodes() {
			said, err := cluster(t).Kubectl(t.Context(), "--namespace=kube-system", "logs", "--since=1m", "fairlead-control-plane-"+n)
			t.Logf("%s: %s %v", n, said, err)
		}
	}
}

// judge judges what the client got and heard until end.
func (r row) judge(t *testing.T, owner string, got apiCalls, arp *asktest.Heard, end time.Time) {
	t.Helper()
	two := arp.Doubled(100 * time.Millisecond)
	var nodes []string
	for _, mac := range arp.Moves() {
		nodes = append(nodes, cluster(t).NodeAt(mac))
	}
	t.Logf("%s (%s): %d good answers, %v without one; ARP %v without an answer, two answers for %v, at %s; else %v", r.name, owner, got.good,
		got.gap.Round(time.Millisecond), arp.Silence(end).Round(time.Millisecond), two.Round(time.Millisecond), strings.Join(nodes, ", "), got.other)
	if two > asktest.Wide.Doubled {
		t.Errorf("two nodes answered for %v", two)
	}
	if !r.dark && got.gap > asktest.Wide.Silence {
		t.Errorf("no answer for %v", got.gap)
	}
	if !r.moves && len(nodes) != 1 {
		t.Errorf("the address moved: %v", nodes)
	}
}
