package lab

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// bird is BIRD 2 on the router.
type bird struct{ l *Lab }

const birdProgram = "/usr/sbin/bird"

func (b bird) control() string { return b.l.state.file("bird.ctl") }

func (b bird) start(ctx context.Context) error {
	if _, err := os.Stat(birdProgram); err != nil {
		return fmt.Errorf("%w: make packages installs it", err)
	}
	file := b.l.state.file("bird.conf")
	if err := os.WriteFile(file, []byte(b.conf()), 0o644); err != nil {
		return err
	}
	enter, err := b.l.enter(Router)
	if err != nil {
		return err
	}
	args := []string{birdProgram, "-f", "-c", file, "-s", b.control(), "-P", b.l.state.file("bird.pid")}
	if err := b.l.start(process{name: "router-bird", enter: enter, args: args}); err != nil {
		return err
	}
	return Until(ctx, 30*time.Second, "bird to answer", func(ctx context.Context) error {
		_, err := b.Shell(ctx, "show status")
		return err
	})
}

func (b bird) Shell(ctx context.Context, command string) (string, error) {
	out, err := b.l.Exec(ctx, Router, append([]string{"birdc", "-s", b.control()}, strings.Fields(command)...)...)
	return string(out), err
}

func (bird) Tables() []string { return []string{"show protocols", "show route", "show bfd sessions"} }

func (b bird) Sessions(ctx context.Context) (map[string]string, error) {
	text, err := b.Shell(ctx, "show protocols")
	if err != nil {
		return nil, err
	}
	return birdSessions(text), nil
}

// birdSessions reads the states by protocol out of "show protocols".
func birdSessions(text string) map[string]string {
	states := map[string]string{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == "BGP" {
			states[f[0]] = strings.Join(f[min(5, len(f)):], " ")
		}
	}
	return states
}

func (b bird) Watched(ctx context.Context) (int, error) {
	text, err := b.Shell(ctx, "show bfd sessions")
	return strings.Count(text, " Up "), err
}

// conf has a session by each family with every node, for that family.
func (b bird) conf() string {
	router := lanAddress(routerNumber).bare()
	var s strings.Builder
	fmt.Fprintf(&s, `router id %s;
protocol device {}
protocol kernel { merge paths on; ipv4 { import none; export all; }; }
protocol kernel { merge paths on; ipv6 { import none; export all; }; }
protocol bfd { interface "*" { interval 50 ms; multiplier 3; }; }
template bgp node {
 passive on;
 bfd on;
 error wait time 1, 5;
}
`, router.v4)
	for _, n := range b.l.nodes {
		a := n.lan().bare()
		for family, ends := range map[string][2]string{"ipv4": {router.v4, a.v4}, "ipv6": {router.v6, a.v6}} {
			fmt.Fprintf(&s, "protocol bgp %s_%s from node { local %s as %d; neighbor %s as %d; %s { import all; export none; }; }\n",
				n.name, family, ends[0], RouterASN, ends[1], NodeASN, family)
		}
	}
	return s.String()
}
