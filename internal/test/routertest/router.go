// Package routertest runs real routers, FRR and BIRD, in network namespaces of
// a test: processes with their own configuration and state directories, which
// end with the test.
package routertest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// program starts a program in ns that is killed when the test ends. What it
// says is shown if the test fails.
func program(t testing.TB, ns nstest.Space, args ...string) *os.Process {
	t.Helper()
	if _, err := os.Stat(args[0]); err != nil {
		t.Fatalf("%s is missing: make packages installs it", args[0])
	}
	var out locked
	cmd := exec.Command("ip", append([]string{"netns", "exec", ns.Name}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(args[0]), out.String())
		}
	})
	return cmd.Process
}

type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// state is a directory short enough for the names of sockets.
func state(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// give makes path belong to the user that a daemon turns into.
func give(t testing.TB, path, name string) {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatalf("%v: make packages installs what makes it", err)
	}
	uid, errUID := strconv.Atoi(u.Uid)
	gid, errGID := strconv.Atoi(u.Gid)
	if err := errors.Join(errUID, errGID, os.Chown(path, uid, gid)); err != nil {
		t.Fatal(err)
	}
}

// FRR is a running FRR.
type FRR struct {
	Space     nstest.Space
	dir       string
	processes map[string]*os.Process
}

const frrDir = "/usr/lib/frr/"

// StartFRR runs zebra and the daemons that conf configures, by name: "bgpd",
// "bfdd". It returns when all of them answer.
func StartFRR(t testing.TB, ns nstest.Space, conf map[string]string) *FRR {
	t.Helper()
	r := &FRR{Space: ns, dir: state(t), processes: map[string]*os.Process{}}
	give(t, r.dir, "frr")
	for _, daemon := range []string{"zebra", "bfdd", "bgpd"} {
		text, wanted := conf[daemon]
		if !wanted && daemon != "zebra" {
			continue
		}
		args := []string{
			frrDir + daemon, "-P", "0", "-z", r.dir + "/zserv", "-i", r.dir + "/" + daemon + ".pid", "--vty_socket", r.dir,
			"--log", "stdout", "-f", write(t, r.dir+"/"+daemon+".conf", "log stdout informational\n"+text),
		}
		give(t, r.dir+"/"+daemon+".conf", "frr")
		switch daemon {
		case "bgpd":
			args = append(args, "-p", "179")
		case "bfdd":
			args = append(args, "--bfdctl", r.dir+"/bfdd.sock")
		}
		r.processes[daemon] = program(t, ns, args...)
		nstest.Eventually(t, daemon+" to answer", func() bool {
			_, err := r.try(daemon, "show version")
			return err == nil
		})
	}
	return r
}

// Process is one of the daemons.
func (r *FRR) Process(daemon string) *os.Process { return r.processes[daemon] }

func (r *FRR) try(daemon, command string) (string, error) {
	return r.Space.Try("vtysh", "--vty_socket", r.dir, "-d", daemon, "-c", command)
}

// Show runs a command of the daemon's shell.
func (r *FRR) Show(t testing.TB, daemon, command string) string {
	t.Helper()
	out, err := r.try(daemon, command)
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return out
}

// Configure gives commands to a daemon's configuration.
func (r *FRR) Configure(t testing.TB, daemon string, commands ...string) {
	t.Helper()
	args := []string{"vtysh", "--vty_socket", r.dir, "-d", daemon, "-c", "configure terminal"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	r.Space.Run(t, args...)
}

// BIRD is a running BIRD 2.
type BIRD struct {
	Space   nstest.Space
	dir     string
	Process *os.Process
}

// StartBIRD runs bird with a configuration file, and returns when it answers.
func StartBIRD(t testing.TB, ns nstest.Space, conf string) *BIRD {
	t.Helper()
	r := &BIRD{Space: ns, dir: state(t)}
	r.Process = program(t, ns, "/usr/sbin/bird", "-f", "-c", write(t, r.dir+"/bird.conf", conf), "-s", r.dir+"/ctl", "-P", r.dir+"/pid")
	nstest.Eventually(t, "bird to answer", func() bool {
		_, err := r.try("show status")
		return err == nil
	})
	return r
}

func (r *BIRD) try(command string) (string, error) {
	args := append([]string{"birdc", "-s", r.dir + "/ctl"}, strings.Fields(command)...)
	return r.Space.Try(args...)
}

// Show runs a command of birdc.
func (r *BIRD) Show(t testing.TB, command string) string {
	t.Helper()
	out, err := r.try(command)
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return out
}

// Within waits until ok, and returns how long it took; the bound is for noisy
// machines, and what is measured is logged.
func Within(t testing.TB, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	nstest.Eventually(t, what, ok)
	took := time.Since(began)
	t.Logf("%s: %s", what, took.Round(time.Millisecond))
	return took
}
