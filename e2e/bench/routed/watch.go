package routed

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/e2e/lab"
)

// watcher looks at the router's route every few milliseconds.
type watcher struct {
	cmd *exec.Cmd
	end io.Closer
	out bytes.Buffer
}

// watch begins to look at the route to the address. A look is a line: when, and
// the route. It ends with its standard input.
func (b *Bench) watch(ctx context.Context) (*watcher, error) {
	look := fmt.Sprintf("while read -t 0.002 x; [ $? -gt 128 ]; do now=$EPOCHREALTIME; echo $now $(ip route show %s); done", b.vip)
	cmd, err := b.Lab.Command(ctx, lab.Router, "bash", "-c", look)
	if err != nil {
		return nil, err
	}
	w := &watcher{cmd: cmd}
	cmd.Stdout = &w.out
	if w.end, err = cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("watch the route: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("watch the route: %w", err)
	}
	return w, nil
}

func (w *watcher) stop() (string, error) {
	if err := w.end.Close(); err != nil {
		return "", fmt.Errorf("watch the route: %w", err)
	}
	_ = w.cmd.Wait() // its status is that of its last command
	return w.out.String(), nil
}

// lastSeen is how long after at the route by gateway was last seen to begin a
// look: the first look without it ends the time. A look says how it was a moment
// after the time that it is told with.
func lastSeen(looks, gateway string, at time.Time) (time.Duration, error) {
	seen, gone := false, time.Duration(0)
	for line := range strings.Lines(looks) {
		stamp, route, _ := strings.Cut(strings.TrimSpace(line), " ")
		seconds, err := strconv.ParseFloat(stamp, 64)
		if err != nil {
			return 0, fmt.Errorf("a look at the route: %w", err)
		}
		after := time.Duration(seconds*float64(time.Second)) - time.Duration(at.UnixNano())
		there := strings.Contains(route+" ", "via "+gateway+" ")
		seen = seen || there
		if there {
			gone = 0
		} else if seen && gone == 0 {
			gone = after
		}
	}
	if !seen || gone <= 0 {
		return 0, fmt.Errorf("the route by %s was seen: %v, and went after %s", gateway, seen, gone)
	}
	return gone, nil
}
