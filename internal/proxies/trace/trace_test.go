package trace

import (
	"errors"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/fairlead/fairlead/internal/proxies"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// node is a node in a network namespace of its own, without processes.
type node struct {
	nstest.Space
	*Reader
}

func newNode(t *testing.T) node {
	t.Helper()
	return node{nstest.New(t, "node"), &Reader{Proc: noProcesses{os.DirFS("/proc")}}}
}

// noProcesses is a /proc that shows the kernel's files alone.
type noProcesses struct{ fs.FS }

func (noProcesses) ReadDir(string) ([]fs.DirEntry, error) { return nil, nil }

func (n node) read(t *testing.T) (f proxies.Facts) {
	t.Helper()
	n.Do(t, func() error { f = n.Read(); return nil })
	if len(f.Unread) > 0 {
		t.Fatalf("could not read %s", strings.Join(f.Unread, "; "))
	}
	return f
}

// objects are the names of what f has.
func objects(f proxies.Facts) string {
	var out []string
	for o := range f.Objects {
		out = append(out, o.String())
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

const (
	inNFTables = "add table FAMILY kube-proxy; add chain FAMILY kube-proxy nat-prerouting { type nat hook prerouting priority -100; }; " +
		"flush chain FAMILY kube-proxy nat-prerouting; add rule FAMILY kube-proxy nat-prerouting accept"
	inIPTables = "*nat\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -p tcp -j RETURN\nCOMMIT\n"
)

func (n node) nft(t *testing.T, family string) {
	t.Helper()
	n.Pipe(t, strings.ReplaceAll(strings.ReplaceAll(inNFTables, "; ", "\n"), "FAMILY", family), "nft", "-f", "-")
}

// What proxies leave in the kernel is found by the objects themselves, and nothing else is.
// An object that its owner writes again, with the same content, shows that.
func TestObjects(t *testing.T) {
	tests := []struct {
		want  string
		write func(n node)
		same  bool // it cannot be seen that it was written again
	}{
		{"nftables table ip kube-proxy", func(n node) { n.nft(t, "ip") }, false},
		{"nftables table ip6 kube-proxy", func(n node) { n.nft(t, "ip6") }, false},
		{"iptables chain ip nat KUBE-SERVICES", func(n node) { n.Pipe(t, inIPTables, "iptables-nft-restore", "--noflush") }, false},
		{"iptables chain ip6 nat KUBE-SERVICES", func(n node) { n.Pipe(t, inIPTables, "ip6tables-nft-restore", "--noflush") }, false},
		{"legacy iptables chain ip nat KUBE-SERVICES", func(n node) { n.Pipe(t, inIPTables, "iptables-legacy-restore", "--noflush") }, true},
		{"legacy iptables chain ip6 nat KUBE-SERVICES", func(n node) { n.Pipe(t, inIPTables, "ip6tables-legacy-restore", "--noflush") }, true},
		{"link kube-ipvs0", func(n node) { n.link(t, "kube-ipvs0") }, false},
		{"link kube-dummy-if", func(n node) { n.link(t, "kube-dummy-if") }, false},
		{"link cilium_host", func(n node) { n.link(t, "cilium_host") }, false},
		{"link bpfin.cali", func(n node) { n.link(t, "bpfin.cali") }, false},
		{"link ovn-k8s-mp0", func(n node) { n.link(t, "ovn-k8s-mp0") }, false},
		{"nftables table inet ovn-kubernetes", func(n node) {
			n.Pipe(t, "delete table inet ovn-kubernetes\n", "sh", "-c", "nft -f - 2>/dev/null; nft add table inet ovn-kubernetes")
		}, false},
		{"route antrea-gw0 169.254.0.253", func(n node) {
			n.link(t, "antrea-gw0")
			n.Run(t, "ip", "route", "replace", "169.254.0.253", "dev", "antrea-gw0", "scope", "link")
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			n := newNode(t)
			n.Pipe(t, strings.ReplaceAll(inIPTables, "KUBE-SERVICES", "KUBE-MARK-MASQ"), "iptables-nft-restore", "--noflush") // the kubelet's
			if got := objects(n.read(t)); got != "" {
				t.Fatalf("before: %s", got)
			}
			tt.write(n)
			first := n.read(t)
			if got := objects(first); got != tt.want {
				t.Fatalf("got %q", got)
			}
			if !maps.Equal(first.Objects, n.read(t).Objects) {
				t.Error("another look shows another text")
			}
			tt.write(n)
			if maps.Equal(first.Objects, n.read(t).Objects) != tt.same {
				t.Errorf("written again: %v", first.Objects)
			}
		})
	}
}

// link makes a link, in place of one that is there.
func (n node) link(t *testing.T, name string) {
	t.Helper()
	n.Run(t, "sh", "-c", "ip link del "+name+" 2>/dev/null; ip link add "+name+" type veth peer name p"+name[:3]+" && ip link set "+name+" up")
}

// Ports on which a process of the node listens are found at whatever address.
func TestListening(t *testing.T) {
	n := newNode(t)
	n.Run(t, "ip", "link", "set", "lo", "up")
	var l []net.Listener
	n.Do(t, func() error {
		for _, at := range []string{"127.0.0.1:10256", "[::1]:20244"} {
			got, err := net.Listen("tcp", at)
			if err != nil {
				return err
			}
			l = append(l, got)
		}
		return nil
	})
	defer l[0].Close()
	defer l[1].Close()
	if got := n.read(t).Listening; !maps.Equal(got, map[uint16]bool{10256: true, 20244: true}) {
		t.Errorf("got %v", got)
	}
}

// Processes count that are in the reader's network namespace, or may be.
func TestProcesses(t *testing.T) {
	link := func(to string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink | 0o777}
	}
	comm := func(name string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(name + "\n")} }
	proc := fstest.MapFS{
		"thread-self/ns/net": link("net:[1]"),
		"7/comm":             comm("kube-proxy"), "7/ns/net": link("net:[1]"),
		"8/comm": comm("cilium-agent"), "8/ns/net": link("net:[2]"),
		"9/comm":  comm("k3s-server"), // its namespace cannot be read
		"10/comm": comm("bash"), "10/ns/net": link("net:[1]"), "10/fd/0": comm(""),
		"self/comm": comm("calico-node"),
	}
	if got := slices.Sorted(maps.Keys(processes(proc))); !slices.Equal(got, []string{"k3s-server", "kube-proxy"}) {
		t.Errorf("got %v", got)
	}
}

// reads notes what is read of a file system.
type reads struct {
	fs.FS
	names *[]string
}

func (r reads) note(name string) { *r.names = append(*r.names, name) }

func (r reads) Open(name string) (fs.File, error) {
	r.note(name)
	return r.FS.Open(name)
}

func (r reads) ReadLink(name string) (string, error) {
	r.note(name)
	return fs.ReadLink(r.FS, name)
}

func (r reads) Lstat(name string) (fs.FileInfo, error) {
	r.note(name)
	return fs.Lstat(r.FS, name)
}

// Of a process that is not a proxy its name is read, and nothing else: to list the files of one
// takes the kernel longer than all the rest.
func TestProcessesAreReadSparingly(t *testing.T) {
	file := &fstest.MapFile{Data: []byte("bash\n")}
	var names []string
	processes(reads{fstest.MapFS{"thread-self/ns/net": file, "7/comm": file, "7/ns/net": file, "8/comm": file, "8/fd/0": file, "self/comm": file}, &names})
	slices.Sort(names)
	if want := []string{".", "7/comm", "8/comm", "thread-self/ns/net"}; !slices.Equal(names, want) {
		t.Errorf("read %v, want %v", names, want)
	}
}

// BenchmarkProcesses looks for proxies among the processes of this machine.
func BenchmarkProcesses(b *testing.B) {
	proc := New().Proc
	var before, after syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	for b.Loop() {
		processes(proc)
	}
	if err := errors.Join(err, syscall.Getrusage(syscall.RUSAGE_SELF, &after)); err != nil {
		b.Fatal(err)
	}
	spent := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(spent)/1e6/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(len(all)), "processes")
}
