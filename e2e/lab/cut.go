package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Cut makes the switch of the LAN drop frames. Each rule is a match of nft on a frame that
// is passed on, such as `oifname "node1"` for what node1 would hear. It replaces what an
// earlier call cut; no rule at all cuts nothing.
func (l *Lab) Cut(ctx context.Context, rules ...string) error {
	text := "table bridge cut\ndelete table bridge cut\n"
	if len(rules) > 0 {
		text += "table bridge cut {\nchain forward {\ntype filter hook forward priority 0;\n" + strings.Join(rules, " drop\n") + " drop\n}\n}\n"
	}
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", lanNamespace, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cut %v: %w: %s", rules, err, out)
	}
	return nil
}

// AtClient runs f in the network of the client, on a thread of its own.
func (l *Lab) AtClient(f func() error) error { return l.At(Client, f) }

// At runs f in the network of a host, on a thread of its own.
func (l *Lab) At(host string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and the thread ends with this goroutine
		ns, err := os.Open(filepath.Join(netnsDir, prefix+host))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			_ = ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// NodeAt returns the node with a link address on the LAN, "" for none.
func (l *Lab) NodeAt(address string) string {
	for _, n := range l.nodes {
		if mac(10+n.index) == address {
			return n.name
		}
	}
	return ""
}
