package kernels

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

func TestPick(t *testing.T) {
	for names, want := range map[string]string{
		"":         "[5.10 6.1 6.12 7]",
		"6.1":      "[6.1]",
		"6.12,6.1": "[6.12 6.1]",
		"6.1 7":    "[6.1 7]",
		"6":        "[]",
		"6.1,2.6":  "[]",
	} {
		got, err := Pick(names)
		if fmt.Sprint(got) != want || (err == nil) == (want == "[]") {
			t.Errorf("%q: got %v, %v, want %s", names, got, err, want)
		}
	}
}

// A kernel is one package in older suites and several in newer ones.
func TestKernelPackages(t *testing.T) {
	for depends, want := range map[string]string{
		"linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-50-cloud-amd64\nlinux-image-6.1.0-50-cloud-amd64\n  Depends: kmod\nkmod\nlinux-base\n": "[linux-image-6.1.0-50-cloud-amd64]",
		"linux-image-7.2.13+deb14-cloud-amd64\nlinux-base-7.2.13+deb14-cloud-amd64\nlinux-base\nlinux-base-cloud-amd64\n" +
			"linux-binary-7.2.13+deb14-cloud-amd64\nlinux-modules-7.2.13+deb14-cloud-amd64\n": "[linux-base-7.2.13+deb14-cloud-amd64" +
			" linux-binary-7.2.13+deb14-cloud-amd64 linux-image-7.2.13+deb14-cloud-amd64 linux-modules-7.2.13+deb14-cloud-amd64]",
	} {
		if got := fmt.Sprint(kernelPackages(depends)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestOlder(t *testing.T) {
	for pair, want := range map[[2]string]bool{
		{"5.10", "5.12"}: true, {"5.10", "5.9"}: false, {"5.10", "5.10"}: false, {"6.1", "6.12"}: true, {"7", "6.12"}: false,
	} {
		if got := older(pair[0], pair[1]); got != want {
			t.Errorf("older(%s, %s) = %v", pair[0], pair[1], got)
		}
	}
}

// The kernel takes an archive whose headers have 110 bytes, and whose names and
// contents begin at multiples of four.
func TestArchive(t *testing.T) {
	var a archive
	a.add("bin/ip", []byte("12345"))
	a.add("bin/nft", nil)
	a.add("bin/ip", []byte("twice"))
	var got []string
	for rest := a.bytes(); len(rest) > 0; {
		var size, name int
		if _, err := fmt.Sscanf(string(rest[54:62])+" "+string(rest[94:102]), "%x %x", &size, &name); err != nil || string(rest[:6]) != "070701" {
			t.Fatalf("header %q: %v", rest[:110], err)
		}
		at := (110 + name + 3) / 4 * 4
		got = append(got, fmt.Sprintf("%s %s %s", rest[14:22], rest[110:110+name-1], rest[at:at+size]))
		rest = rest[(at+size+3)/4*4:]
	}
	want := []string{"000041ED bin ", "000081ED bin/ip 12345", "000081ED bin/nft ", "00000000 TRAILER!!! "}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// ends is what guests print, with what the report says of it, and what the screen
// shows.
var ends = []struct{ name, says, report, shows string }{
	{
		name:   "all pass",
		says:   "@@begin a\r\n=== RUN   TestX\r\n    x_test.go:1: noise\r\n--- PASS: TestX (0.10s)\r\n    --- PASS: TestX/sub (0.10s)\r\nPASS\r\n@@end a ok\r\n@@begin b/c\n--- PASS: TestY (1.00s)\n@@end b/c ok\n@@done 6.1.0\n",
		report: "",
		shows:  "@@begin a\n--- PASS: TestX (0.10s)\n@@begin b/c\n--- PASS: TestY (1.00s)\n",
	},
	{
		name:   "one fails",
		says:   "@@begin a\n=== RUN   TestX\n--- PASS: TestX (0.10s)\n=== RUN   TestY\n    y_test.go:1: why\n--- FAIL: TestY (0.10s)\nFAIL\n@@end a exit status 1\n@@begin b/c\n@@end b/c ok\n@@done 6.1.0\n",
		report: "a.TestY failed",
		shows:  "@@begin a\n--- PASS: TestX (0.10s)\n=== RUN   TestY\n    y_test.go:1: why\n--- FAIL: TestY (0.10s)\nFAIL\n@@end a exit status 1\n@@begin b/c\n",
	},
	{
		name:   "one skips itself",
		says:   "@@begin a\n--- SKIP: TestX (0.10s)\n--- PASS: TestY (0.10s)\n    --- SKIP: TestY/sub (0.00s)\n@@end a ok\n@@begin b/c\n@@end b/c ok\n@@done 6.1.0\n",
		report: "a.TestX skipped itself: Exceptions has to name it, with the reason; a.TestY/sub skipped itself: Exceptions has to name it, with the reason",
		shows:  "@@begin a\n--- SKIP: TestX (0.10s)\n--- PASS: TestY (0.10s)\n@@begin b/c\n",
	},
	{
		name:   "a program fails beside its tests",
		says:   "@@begin a\n--- PASS: TestX (0.10s)\nPASS\ngoleak: 1 goroutine\n@@end a exit status 1\n@@begin b/c\n@@end b/c ok\n@@done 6.1.0\n",
		report: "a: exit status 1",
		shows:  "@@begin a\n--- PASS: TestX (0.10s)\nPASS\ngoleak: 1 goroutine\n@@end a exit status 1\n@@begin b/c\n",
	},
	{
		name:   "the kernel ends",
		says:   "@@begin a\n--- PASS: TestX (0.10s)\n=== RUN   TestY\n",
		report: "a did not end; b/c did not end; the guest did not end as it should",
		shows:  "@@begin a\n--- PASS: TestX (0.10s)\n=== RUN   TestY\n",
	},
	{
		name:   "benchmarks",
		says:   "@@begin a\nBenchmarkX\nBenchmarkX-2 \t 10\t 105 ns/op\nPASS\n@@end a ok\n@@begin b/c\n@@end b/c ok\n@@done 6.1.0\n",
		report: "",
		shows:  "@@begin a\nBenchmarkX-2 \t 10\t 105 ns/op\n@@begin b/c\n",
	},
}

func TestReport(t *testing.T) {
	for _, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			r := NewReport(Image{Version: "6.1.176-1"}, Job{Runs: []Run{{Package: "a"}, {Package: "b/c"}}})
			var out bytes.Buffer
			screen := Screen{Out: &out}
			if err := r.Read(strings.NewReader(e.says), screen.Heard); err != nil {
				t.Fatal(err)
			}
			err := r.Err()
			if err != nil && r.Release == "" {
				screen.Flush()
			}
			if got := strings.Join(r.faults(), "; "); got != e.report || (err != nil) != (e.report != "") {
				t.Errorf("got %q, %v, want %q", got, err, e.report)
			}
			if out.String() != e.shows {
				t.Errorf("shows\n%s\nwant\n%s", out.String(), e.shows)
			}
		})
	}
}

func TestTable(t *testing.T) {
	r := NewReport(Image{Version: "6.1.176-1"}, Job{Left: []Exception{{Package: "a", Tests: []string{"TestZ"}, Why: "too large"}}})
	if err := r.Read(strings.NewReader(ends[0].says), (&Screen{Out: io.Discard}).Heard); err != nil {
		t.Fatal(err)
	}
	r.Took = 61 * time.Second
	const want = "KERNEL       RELEASE                       RUN  PASSED SKIPPED  FAILED     TIME\n" +
		"6.1.176-1    6.1.0                           2       2       0       0     1m1s\n" +
		"left out on 6.1.176-1: a: TestZ: too large\n"
	if got := Table([]*Report{r}); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestJob(t *testing.T) {
	const everywhere = "-test.skip=^(TestSixtyThousandClients|TestSwapWithV010UnderLoad)$"
	tests := []TestProgram{{Package: "proxy/ebpf", File: "/x/proxy-ebpf"}, {Package: "proxy/nftables/netlink", File: "/x/proxy-nftables-netlink"}}
	for _, c := range []struct {
		name, series string
		emulated     bool
		selection    Selection
		want         string // the arguments of both programs
	}{
		{"everything", "6.1", false, Selection{}, "[[-test.v -test.timeout=1m0s] [-test.v -test.timeout=1m0s " + everywhere + "]]"},
		{"an older kernel", "5.10", true, Selection{}, "[[-test.v -test.timeout=1m0s -test.skip=^(" + strings.Join(Exceptions[1].Tests, "|") + ")$] [-test.v -test.timeout=1m0s -test.skip=^(TestRefusedTransactionNamesTheElement|TestSixtyThousandClients|TestSwapWithV010UnderLoad)$]]"},
		{
			"named", "6.1", true, Selection{Run: "Load"},
			"[[-test.v -test.timeout=1m0s -test.run=Load] [-test.v -test.timeout=1m0s -test.run=Load " + everywhere + "]]",
		},
		{
			"benchmarks", "6.1", true, Selection{Bench: ".", BenchTime: "5x"},
			"[[-test.v -test.timeout=1m0s -test.bench=. -test.benchmem -test.benchtime=5x -test.run=^$] [-test.v -test.timeout=1m0s -test.bench=. -test.benchmem -test.benchtime=5x -test.run=^$ " + everywhere + "]]",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.selection.Limit = time.Minute
			var got [][]string
			job := NewJob(Circumstances{Kernel: Kernel{Series: c.series}, Emulated: c.emulated}, tests, c.selection)
			if slices.Contains(job.Env, nstest.EmulatedEnv+"=1") != c.emulated {
				t.Errorf("emulated %v: the tests have %q", c.emulated, job.Env)
			}
			for _, r := range job.Runs {
				got = append(got, r.Args)
			}
			if fmt.Sprint(got) != c.want {
				t.Errorf("got  %v\nwant %s", got, c.want)
			}
		})
	}
}

// An exception holds on the series that it names, and for packages that run.
func TestExceptions(t *testing.T) {
	hold := func(series string, packages ...string) string {
		var names []string
		for _, e := range (Circumstances{Kernel: Kernel{Series: series}}).Hold(packages) {
			names = append(names, e.Package)
		}
		return strings.Join(names, " ")
	}
	for _, c := range []struct{ got, want string }{
		{hold("5.10", "nodeport", "proxy/ebpf"), "nodeport proxy/ebpf"},
		{hold("6.1", "nodeport", "proxy/ebpf"), "nodeport"},
		{hold("5.10", "nodeport/socket"), ""},
		{hold("5.10", "proxy/director/program"), "proxy/director/program"},
		{hold("6.1", "proxy/director/program"), ""},
		{hold("6.1", "proxy/nftables/netlink"), "proxy/nftables/netlink proxy/nftables/netlink"},
		{hold("6.12", "proxy/nftables/netlink"), "proxy/nftables/netlink proxy/nftables/netlink proxy/nftables/netlink"},
		{hold("7", "proxy/nftables/netlink"), "proxy/nftables/netlink proxy/nftables/netlink proxy/nftables/netlink"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

// An exception that names no test would hide that the test has another name now.
func TestExceptionsNameTests(t *testing.T) {
	for _, e := range Exceptions {
		files, err := filepath.Glob(filepath.Join("../..", e.Package, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var source []byte
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			source = append(source, content...)
		}
		for _, name := range e.Tests {
			if !regexp.MustCompile(`(?m)^func ` + name + `\(`).Match(source) {
				t.Errorf("%s has no %s", e.Package, name)
			}
		}
	}
}

// The default packages are those with kernel tests, and no others.
func TestDefaults(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Fatal(err)
	}
	got, err := kernelTests(t.Context(), "../..", Defaults)
	want := []string{"announcer/l2", "nodeport", "nodeport/relay", "nodeport/socket", "proxy/director/program", "proxy/ebpf", "proxy/nftables/netlink"}
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := kernelTests(t.Context(), "../..", []string{"./allocator"}); err == nil {
		t.Error("a package without kernel tests is taken")
	}
}
