package speaker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/confine"
	"github.com/fairlead/fairlead/internal/test/routertest"
)

// TestSessionsHaveNoRights: the process of a session that is up is nobody, may do nothing,
// has no file open and no environment. So somebody who takes it over through a message has
// the session, and nothing of the node's.
func TestSessionsHaveNoRights(t *testing.T) {
	t.Parallel()
	nodeSpace, routerSpace := wired(t)
	c := plain()
	c.Neighbors[0].Password = "first"
	routertest.Routers["BIRD"](t, routerSpace, c)
	p := start(t, nodeSpace)
	four := peer("four", router4, "198.19.0.1/32")
	four.Password = "first"
	p.sync(four, peer("six", router6, "fd98:19::2/128"))
	within(t, "established", p.established(2))
	children := p.children()
	if len(children) != 2 {
		t.Fatalf("children: %v", children)
	}
	for _, pid := range children {
		proc := fmt.Sprintf("/proc/%d/", pid)
		status := "\n" + read(t, proc+"status")
		for _, line := range []string{
			fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d", confine.User), "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000",
			"CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
		} {
			if !strings.Contains(status, "\n"+line+"\n") {
				t.Errorf("not %q but%s", line, status)
			}
		}
		if env := read(t, proc+"environ"); env != "" {
			t.Errorf("the environment of a session is %q", env)
		}
		for _, at := range links(t, proc+"fd/*") {
			// Go asks a cgroup how many CPUs there are.
			if strings.HasPrefix(at, "/") && at != os.DevNull && !strings.HasPrefix(at, "/sys/fs/cgroup/") {
				t.Errorf("a session has %s open", at)
			}
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// links are the targets of the symbolic links that pattern matches.
func links(t *testing.T, pattern string) (out []string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	for _, file := range files {
		if at, err := os.Readlink(file); err == nil { // one that is closed meanwhile has none
			out = append(out, at)
		}
	}
	return out
}
