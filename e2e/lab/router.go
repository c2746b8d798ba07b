package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The AS numbers of the lab, from those for documentation (RFC 5398).
const (
	NodeASN   = 64500
	RouterASN = 64501
)

const frrPrograms = "/usr/lib/frr/"

// StartBGP makes the router a BGP speaker, FRR, that waits for a session by each
// family from every node and puts what they announce into its kernel, shared
// between the nodes connection by connection. It is ready for BFD at 50 ms x 3
// with nodes that want it.
func (l *Lab) StartBGP(ctx context.Context) error {
	if _, ok := l.running("router-bgpd"); ok {
		return nil
	}
	step := l.progress.Begin("router: FRR")
	return step.Done(l.startBGP(ctx))
}

func (l *Lab) startBGP(ctx context.Context) error {
	if err := giveFRR(os.MkdirAll(l.frr(), 0o755), l.frr()); err != nil {
		return err
	}
	if err := sysctl(ctx, prefix+Router, "net.ipv4.fib_multipath_hash_policy=1", "net.ipv6.fib_multipath_hash_policy=1"); err != nil {
		return err
	}
	conf := map[string]string{"bfdd": bfdConf, "bgpd": l.bgpConf()}
	for _, daemon := range []string{"zebra", "bfdd", "bgpd"} {
		if err := l.startFRR(ctx, daemon, conf[daemon]); err != nil {
			return fmt.Errorf("start %s: %w", daemon, err)
		}
	}
	return nil
}

func (l *Lab) frr() string { return l.state.file("frr") }

// startFRR starts one of FRR's daemons and waits until it answers.
func (l *Lab) startFRR(ctx context.Context, daemon, conf string) error {
	if _, err := os.Stat(frrPrograms + daemon); err != nil {
		return fmt.Errorf("%w: make packages installs it", err)
	}
	file := filepath.Join(l.frr(), daemon+".conf")
	if err := giveFRR(os.WriteFile(file, []byte("log stdout informational\n"+conf), 0o600), file); err != nil {
		return err
	}
	enter, err := l.enter(Router)
	if err != nil {
		return err
	}
	args := []string{frrPrograms + daemon, "-P", "0", "-z", l.frr() + "/zserv", "-i", l.frr() + "/" + daemon + ".pid", "--vty_socket", l.frr(), "-f", file}
	if daemon == "bfdd" {
		args = append(args, "--bfdctl", l.frr()+"/bfdd.sock")
	}
	if err := l.start(process{name: "router-" + daemon, enter: enter, args: args}); err != nil {
		return err
	}
	return Until(ctx, 30*time.Second, daemon+" to answer", func(ctx context.Context) error {
		_, err := l.RouterShell(ctx, daemon, "show version")
		return err
	})
}

// giveFRR makes path, which could be made if err is nil, belong to the user that
// FRR turns into.
func giveFRR(err error, path string) error {
	if err != nil {
		return err
	}
	u, err := user.Lookup("frr")
	if err != nil {
		return fmt.Errorf("%w: make packages installs what makes it", err)
	}
	uid, errUID := strconv.Atoi(u.Uid)
	gid, errGID := strconv.Atoi(u.Gid)
	return errors.Join(errUID, errGID, os.Chown(path, uid, gid))
}

// RouterShell runs a command in the shell of one of the router's daemons.
func (l *Lab) RouterShell(ctx context.Context, daemon, command string) (string, error) {
	out, err := l.Exec(ctx, Router, "vtysh", "--vty_socket", l.frr(), "-d", daemon, "-c", command)
	return string(out), err
}

const bfdConf = `bfd
 profile nodes
  detect-multiplier 3
  receive-interval 50
  transmit-interval 50
 exit
exit
`

// bgpConf has a session by each family with every node, for that family.
func (l *Lab) bgpConf() string {
	var neighbors, v4, v6 strings.Builder
	for _, n := range l.nodes {
		a := n.lan().bare()
		for _, ip := range []string{a.v4, a.v6} {
			fmt.Fprintf(&neighbors, " neighbor %s remote-as %d\n neighbor %s passive\n neighbor %s bfd\n neighbor %s bfd profile nodes\n", ip, NodeASN, ip, ip, ip)
		}
		fmt.Fprintf(&v4, "  neighbor %s activate\n", a.v4)
		fmt.Fprintf(&v6, "  neighbor %s activate\n", a.v6)
	}
	return fmt.Sprintf(`router bgp %d
 bgp router-id %s
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
%s address-family ipv4 unicast
%s  maximum-paths 8
 exit-address-family
 address-family ipv6 unicast
%s  maximum-paths 8
 exit-address-family
exit
`, RouterASN, lanAddress(routerNumber).bare().v4, neighbors.String(), v4.String(), v6.String())
}
