package saved

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/earlier"
	"github.com/fairlead/fairlead/proxy"
)

// What is written comes back whole, and replaces the file of v0.1.0.
func TestStateComesBackWhole(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(Paths(dir)[1], []byte(`{"Version":1,"Node":"n1","Snapshot":{}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	want := State{Node: "n1", Written: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Proxy: "fairlead", Snapshot: exampleSnapshot()}
	if err := Write(dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got.Snapshot, want.Snapshot)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

// Every field of a Service and of an address is in the compact form, so that a new one is
// not forgotten.
func TestEveryField(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want := snapshot.Snapshot{
			Services:  filled[snapshot.Service](rt, "services"),
			Addresses: filled[snapshot.Address](rt, "addresses"), NodeAddresses: filled[snapshot.Address](rt, "addresses of nodes"),
		}
		var data bytes.Buffer
		w := newWriter(&data)
		w.snapshot(&want)
		r := &coder{data: data.Bytes()}
		var got snapshot.Snapshot
		r.snapshot(&got)
		if w.err != nil || r.err != nil || len(r.data) > 0 || !reflect.DeepEqual(got, want) {
			rt.Fatalf("got %+v, want %+v; %d bytes left; %v, %v", got, want, len(r.data), w.err, r.err)
		}
	})
}

// filled returns up to three of anything; without one, nil.
func filled[T any](rt *rapid.T, what string) (all []*T) {
	for range rapid.IntRange(0, 3).Draw(rt, what) {
		one := new(T)
		fill(rt, reflect.ValueOf(one).Elem())
		all = append(all, one)
	}
	return all
}

// fill sets v to anything. An empty list or map is nil.
func fill(rt *rapid.T, v reflect.Value) {
	switch v.Interface().(type) {
	case netip.Addr:
		v.Set(reflect.ValueOf(rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("fe80::1%eth0")}).Draw(rt, "addr")))
		return
	case netip.AddrPort:
		v.Set(reflect.ValueOf(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), rapid.Uint16().Draw(rt, "port"))))
		return
	case time.Time:
		v.Set(reflect.ValueOf(rapid.SampledFrom([]time.Time{{}, time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}).Draw(rt, "time")))
		return
	case *snapshot.Hints: // nil if the endpoint has no hints
		var h snapshot.Hints
		if fill(rt, reflect.ValueOf(&h).Elem()); len(h.ZoneHints)+len(h.NodeHints) > 0 {
			v.Set(reflect.ValueOf(&h))
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.SampledFrom([]string{"", "http", "east", rapid.String().Draw(rt, "text")}).Draw(rt, "which"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(rt, "flag"))
	case reflect.Uint8, reflect.Uint16:
		v.SetUint(uint64(rapid.Uint8().Draw(rt, "number")))
	case reflect.Int64:
		v.SetInt(rapid.Int64Min(0).Draw(rt, "number"))
	case reflect.Slice:
		if n := rapid.IntRange(0, 3).Draw(rt, "items"); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
		}
		for i := range v.Len() {
			fill(rt, v.Index(i))
		}
	case reflect.Map:
		for range rapid.IntRange(0, 2).Draw(rt, "entries") {
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(rt, key)
			fill(rt, value)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(rt, v.Field(i))
		}
	default:
		rt.Fatalf("a field of type %s: the compact form does not know it", v.Type())
	}
}

// exampleSnapshot has something of most kinds.
func exampleSnapshot() *snapshot.Snapshot {
	ip := netip.MustParseAddr
	return &snapshot.Snapshot{
		Services: []*snapshot.Service{{
			Ref: snapshot.Ref{Namespace: "a", Name: "web"}, UID: "u", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			Type: snapshot.LoadBalancer, ClusterIPs: []netip.Addr{ip("203.0.113.1"), ip("2001:db8::1")}, Affinity: 10 * time.Second,
			Ports: []snapshot.Port{{Name: "http", Protocol: snapshot.TCP, Port: 80, NodePort: 30080}},
			Endpoints: []snapshot.Endpoint{
				{PortName: "http", Protocol: snapshot.TCP, Addr: netip.MustParseAddrPort("198.51.100.1:8080"), Node: "n1", Ready: true, Serving: true, Hints: &snapshot.Hints{NodeHints: []string{"n1"}}},
				{PortName: "http", Protocol: snapshot.TCP, Addr: netip.MustParseAddrPort("198.51.100.2:8080"), Node: "n2", Ready: true, Serving: true, Hints: &snapshot.Hints{NodeHints: []string{"n2"}}},
			},
			Ingress: []snapshot.Ingress{{IP: ip("192.0.2.1")}, {Hostname: "x"}}, Conditions: map[string]snapshot.Condition{"c": {Status: "True"}},
		}},
		Nodes: []*snapshot.Node{{Name: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, Ready: true}},
		Pools: []*snapshot.Pool{{
			Name: "lan", Ranges: []netipx.IPRange{netipx.MustParseIPRange("192.0.2.1-192.0.2.9")}, Priority: snapshot.NoPriority,
			ServiceSelector: &snapshot.Selector{MatchLabels: map[string]string{"a": "b"}},
		}},
		Addresses:     []*snapshot.Address{{Addr: ip("192.0.2.1"), Pool: "lan", Holders: []snapshot.Holder{{Ref: snapshot.Ref{Namespace: "a", Name: "web"}, UID: "u"}}}},
		NodeAddresses: []*snapshot.Address{{Addr: ip("198.51.100.1"), Pool: "edge", Node: "n", Holders: []snapshot.Holder{{Ref: snapshot.Ref{Namespace: "a", Name: "web"}, UID: "u", Pool: "edge"}}}},
		NodeStates:    []*snapshot.NodeState{{Electable: snapshot.Electable{Node: "n1", InSync: true, Links: []snapshot.Link{{Name: "eth0", Index: 2, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.77/24")}}}}}},
	}
}

// What cannot be used is said, and is never a reason not to start.
func TestReadRefusesWhatIsNotOurs(t *testing.T) {
	for name, tc := range map[string]struct{ data, want string }{
		"cut short":    {`{"Version":1,"Node":"n1","Snap`, "unexpected end"},
		"other node":   {`{"Version":1,"Node":"n2","Snapshot":{}}`, `node "n2"`},
		"other format": {`{"Version":99,"Node":"n1","Snapshot":{}}`, "version 99"},
		"empty":        {``, "unexpected end"},
		"no Snapshot":  {`{"Version":1,"Node":"n1"}`, "damaged"},
		"null":         {`{"Version":1,"Node":"n1","Snapshot":null}`, "damaged"},
		"a hole":       {`{"Version":1,"Node":"n1","Snapshot":{"Services":[null]}}`, "damaged"},
		"another kind": {`{"Version":1,"Node":"n1","Snapshot":{"Services":{}}}`, "cannot unmarshal"},
		"no checksum":  {magic, "too early"},
		"no end":       {magic + "\x00\x00\x00\x00\x00\x00\x00\x09abcdefgh", "too early"},
		"no room":      {magic + "\xff\xff\xff\xff\xff\xff\xff\xffabcdefgh", "too early"},
		"other digits": {magic + "\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00abcd", "checksum"},
		"one to come":  {"fairlead snapshot 6\n", "invalid character"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, file := range []int{0, 1} {
				dir := t.TempDir()
				if err := os.WriteFile(Paths(dir)[file], []byte(tc.data), 0o600); err != nil {
					t.Fatal(err)
				}
				got, err := Read(dir, "n1")
				if got != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("Read() = %v, %v; want an error with %q", got, err, tc.want)
				}
			}
		})
	}
	if got, err := Read(t.TempDir(), "n1"); got != nil || err != nil {
		t.Errorf("an empty folder: %v, %v", got, err)
	}
}

// A file that the disk damaged anywhere, or that ends early, is not read: neither does
// the agent crash, nor does it forward to an address with another digit.
func TestDamagedFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, State{Node: "n1", Written: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Snapshot: exampleSnapshot()}); err != nil {
		t.Fatal(err)
	}
	data := content(t, dir)
	for i := range data {
		if _, err := Decode(data[:i], "n1"); err == nil {
			t.Errorf("cut at byte %d: it is read", i)
		}
		damaged := bytes.Clone(data)
		damaged[i] ^= 1 << (i % 8)
		if _, err := Decode(damaged, "n1"); err == nil {
			t.Errorf("a changed bit at byte %d: it is read", i)
		}
	}
}

func content(t *testing.T, dir string) []byte {
	t.Helper()
	data, err := os.ReadFile(Paths(dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Services that changed are added to the file: what is read is what a whole new file would
// have. Where the disk damaged what was added, or a node lost power meanwhile, what was there
// before is read.
func TestAmendments(t *testing.T) {
	dir := t.TempDir()
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
	whole := exampleSnapshot()
	whole.Services = nil
	for i := range 5 {
		whole.Services = append(whole.Services, numbered(i, 2))
	}
	if err := Amend(dir, at(1), whole.Services[:1]); err == nil {
		t.Error("a file that is not there is amended")
	}
	if err := Write(dir, State{Node: "n1", Written: at(1), Snapshot: whole}); err != nil {
		t.Fatal(err)
	}
	type version struct {
		size  int
		state State
	}
	versions := []version{{len(content(t, dir)), State{Node: "n1", Written: at(1), Snapshot: whole}}}
	for round, changed := range [][]int{{3}, {0, 3, 4}, {1, 4}} {
		next := *versions[round].state.Snapshot
		next.Services = slices.Clone(next.Services)
		var services []*snapshot.Service
		for _, i := range changed {
			s := numbered(i, round+4)
			services, next.Services[i] = append(services, s), s
		}
		if err := Amend(dir, at(int64(round+2)), services); err != nil {
			t.Fatal(err)
		}
		versions = append(versions, version{len(content(t, dir)), State{Node: "n1", Written: at(int64(round + 2)), Snapshot: &next}})
	}
	data := content(t, dir)
	reads := func(what string, data []byte, want State) {
		t.Helper()
		if got, err := Decode(data, "n1"); err != nil || !reflect.DeepEqual(*got, want) {
			t.Fatalf("%s: got %+v, %v, want %+v", what, got, err, want)
		}
	}
	reads("whole", data, versions[3].state)
	for i := versions[0].size; i < len(data); i++ {
		last, _ := slices.BinarySearchFunc(versions, i+1, func(v version, size int) int { return v.size - size })
		reads(fmt.Sprintf("cut at byte %d", i), data[:i], versions[last-1].state)
		damaged := bytes.Clone(data)
		damaged[i] ^= 1 << (i % 8)
		reads(fmt.Sprintf("a changed bit at byte %d", i), damaged, versions[last-1].state)
	}
}

// A compact form that ends early or names what is not there is refused without its
// checksum too.
func TestCoderOfDamagedData(t *testing.T) {
	var out bytes.Buffer
	w := newWriter(&out)
	w.snapshot(exampleSnapshot())
	for i := range out.Len() {
		var got snapshot.Snapshot
		r := &coder{data: out.Bytes()[:i]}
		if r.snapshot(&got); r.err == nil {
			t.Errorf("cut at byte %d: it is read", i)
		}
	}
}

// tableOf is what a node programs from a saved Snapshot, as v0.1.0 prints it: without the
// endpoints that keep their connections alone.
func tableOf(s *snapshot.Snapshot) string {
	return regexp.MustCompile(` serving \S+`).ReplaceAllString(proxy.Compile(s, "n1", nil, proxy.Options{}).String(), "")
}

// An agent that starts after an upgrade, while no API server answers, programs from the
// file of v0.1.0 what v0.1.0 programmed. After a downgrade and one more upgrade there are
// two files; the newer one counts.
func TestStateOfV010(t *testing.T) {
	now := exampleSnapshot()
	text, err := json.Marshal(struct {
		Version int
		State
	}{1, State{Node: "n1", Written: time.Unix(2000, 0), Proxy: "fairlead", Snapshot: now}})
	if err != nil {
		t.Fatal(err)
	}
	v010 := func(what string) []byte {
		cmd := exec.Command(earlier.Program(t), what)
		cmd.Stdin = bytes.NewReader(text)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("v0.1.0 %s: %v", what, err)
		}
		return out
	}
	want, theirs := string(v010("table")), v010("save")
	if !strings.Contains(want, "198.51.100.1:8080") {
		t.Fatalf("the example serves nothing:\n%s", want)
	}
	for _, ours := range []int64{0, 1000, 3000} {
		dir := t.TempDir()
		if ours > 0 {
			if err := Write(dir, State{Node: "n1", Written: time.Unix(ours, 0), Proxy: "kube-proxy", Snapshot: &snapshot.Snapshot{}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(Paths(dir)[1], theirs, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Read(dir, "n1")
		if err != nil {
			t.Fatal(err)
		}
		if newer := ours == 3000; newer != (got.Proxy == "kube-proxy") || !newer && tableOf(got.Snapshot) != want {
			t.Errorf("ours was written at %d: of %q come\n%s\nwant\n%s", ours, got.Proxy, tableOf(got.Snapshot), want)
		}
	}
}

// BenchmarkWrite is the CPU time of one write: of 50,000 Services with 5 endpoints each,
// and of 10,000 that have 4 endpoints and an address of each family.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []struct{ services, endpoints, addresses int }{{50_000, 5, 0}, {10_000, 4, 2}} {
		b.Run(fmt.Sprintf("services=%d/addresses=%d", size.services, size.addresses), func(b *testing.B) {
			s := State{Node: "n1", Snapshot: &snapshot.Snapshot{}}
			for i := range size.services {
				svc := numbered(i, size.endpoints)
				s.Snapshot.Services = append(s.Snapshot.Services, svc)
				for j := range size.addresses {
					s.Snapshot.Addresses = append(s.Snapshot.Addresses, heldBy(svc, i*size.addresses+j))
				}
			}
			dir := b.TempDir()
			before := cpu(b)
			for b.Loop() {
				if err := Write(dir, s); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((cpu(b)-before).Seconds()*1000/float64(b.N), "cpu-ms/op")
			info, err := os.Stat(Paths(dir)[0])
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(info.Size())/(1<<20), "MiB")
		})
	}
}

// BenchmarkAmend is the CPU time to add that ten of 50,000 Services changed.
func BenchmarkAmend(b *testing.B) {
	dir := b.TempDir()
	if err := Write(dir, State{Node: "n1", Snapshot: &snapshot.Snapshot{}}); err != nil {
		b.Fatal(err)
	}
	var changed []*snapshot.Service
	for i := range 10 {
		changed = append(changed, numbered(i, 5))
	}
	before := cpu(b)
	for b.Loop() {
		if err := Amend(dir, time.Now(), changed); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpu(b)-before).Seconds()*1000/float64(b.N), "cpu-ms/op")
}

// numbered is the i-th of many Services.
func numbered(i, endpoints int) *snapshot.Service {
	svc := &snapshot.Service{
		Ref: snapshot.Ref{Namespace: "default", Name: fmt.Sprintf("shop-%05d-web", i)}, UID: fmt.Sprintf("%08x-7f1c-4f0e-9c5d-0123456789ab", i),
		Created: time.Unix(1_700_000_000, 0).UTC(), Type: snapshot.ClusterIP, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
		InternalTrafficPolicy: snapshot.PolicyCluster, Ports: []snapshot.Port{{Name: "http", Protocol: snapshot.TCP, Port: 80}},
	}
	for j := range endpoints {
		n := endpoints*i + j
		svc.Endpoints = append(svc.Endpoints, snapshot.Endpoint{
			PortName: "http", Protocol: snapshot.TCP, Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 128 + byte(n>>16), byte(n >> 8), byte(n)}), 8080),
			Node: fmt.Sprintf("worker-%03d.example.org", n%500), Zone: string(rune('a' + n%3)), Ready: true, Serving: true,
		})
	}
	return svc
}

// heldBy is the n-th address of a pool, which svc holds.
func heldBy(svc *snapshot.Service, n int) *snapshot.Address {
	return &snapshot.Address{
		Addr: netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)}), UID: fmt.Sprintf("%08x-3c02-4a7e-b1f4-0123456789ab", n), ResourceVersion: fmt.Sprint(100_000 + n),
		Created: svc.Created, Pool: "lan", ProbedAt: svc.Created,
		Holders: []snapshot.Holder{{Ref: svc.Ref, UID: svc.UID, Ports: []snapshot.HeldPort{{Protocol: snapshot.TCP, Port: 80}}}},
	}
}

// cpu returns what this process has spent.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
