package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// frr is FRR on the router.
type frr struct{ l *Lab }

const frrPrograms = "/usr/lib/frr/"

func (f frr) dir() string {
	if f.l.described != nil {
		return "/var/run/frr"
	}
	return f.l.state.file("frr")
}

func (f frr) start(ctx context.Context) error {
	if f.l.described != nil {
		return f.restart(ctx)
	}
	if err := giveFRR(os.MkdirAll(f.dir(), 0o755), f.dir()); err != nil {
		return err
	}
	conf := map[string]string{"bfdd": frrBFD, "bgpd": f.bgp()}
	for _, daemon := range []string{"zebra", "bfdd", "bgpd"} {
		if err := f.startDaemon(ctx, daemon, conf[daemon]); err != nil {
			return fmt.Errorf("start %s: %w", daemon, err)
		}
	}
	return nil
}

// restart gives a described router, which has FRR, its configuration: the directory
// frr of the cluster's state is its /etc/frr.
func (f frr) restart(ctx context.Context) error {
	dir := f.l.state.file("frr")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range map[string]string{
		"daemons":    "bgpd=yes\nbfdd=yes\n",
		"vtysh.conf": "service integrated-vtysh-config\n",
		"frr.conf":   "log stdout informational\n" + frrBFD + f.bgp(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	if _, err := f.l.Exec(ctx, Router, "/usr/lib/frr/frrinit.sh", "restart"); err != nil {
		return err
	}
	return Until(ctx, time.Minute, "FRR to answer", func(ctx context.Context) error {
		_, err := f.Shell(ctx, "show version")
		return err
	})
}

// startDaemon starts one of FRR's daemons and waits until it answers.
func (f frr) startDaemon(ctx context.Context, daemon, conf string) error {
	if _, err := os.Stat(frrPrograms + daemon); err != nil {
		return fmt.Errorf("%w: make packages installs it", err)
	}
	file := filepath.Join(f.dir(), daemon+".conf")
	if err := giveFRR(os.WriteFile(file, []byte("log stdout informational\n"+conf), 0o600), file); err != nil {
		return err
	}
	enter, err := f.l.enter(Router)
	if err != nil {
		return err
	}
	args := []string{frrPrograms + daemon, "-P", "0", "-z", f.dir() + "/zserv", "-i", f.dir() + "/" + daemon + ".pid", "--vty_socket", f.dir(), "-f", file}
	if daemon == "bfdd" {
		args = append(args, "--bfdctl", f.dir()+"/bfdd.sock")
	}
	if err := f.l.start(process{name: "router-" + daemon, enter: enter, args: args}); err != nil {
		return err
	}
	return Until(ctx, 30*time.Second, daemon+" to answer", func(ctx context.Context) error {
		_, err := f.shell(ctx, daemon, "show version")
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

func (f frr) shell(ctx context.Context, daemon, command string) (string, error) {
	out, err := f.l.Exec(ctx, Router, "vtysh", "--vty_socket", f.dir(), "-d", daemon, "-c", command)
	return string(out), err
}

// Shell runs a command of bgpd's.
func (f frr) Shell(ctx context.Context, command string) (string, error) {
	return f.shell(ctx, "bgpd", command)
}

func (frr) Tables() []string {
	return []string{"show bgp summary", "show bgp ipv4 unicast", "show bgp ipv6 unicast"}
}

func (f frr) Sessions(ctx context.Context) (map[string]string, error) {
	text, err := f.Shell(ctx, "show bgp summary json")
	if err != nil {
		return nil, err
	}
	return frrSessions([]byte(text))
}

// frrSessions reads the states by neighbour out of "show bgp summary json".
func frrSessions(data []byte) (map[string]string, error) {
	var families map[string]struct {
		Peers map[string]struct{ State string }
	}
	if err := json.Unmarshal(data, &families); err != nil {
		return nil, fmt.Errorf("show bgp summary: %w", err)
	}
	states := map[string]string{}
	for _, f := range families {
		for name, p := range f.Peers {
			states[name] = p.State
		}
	}
	return states, nil
}

func (f frr) Watched(ctx context.Context) (int, error) {
	text, err := f.shell(ctx, "bfdd", "show bfd peers json")
	return strings.Count(text, `"status":"up"`), err
}

const frrBFD = `bfd
 profile nodes
  detect-multiplier 3
  receive-interval 50
  transmit-interval 50
 exit
exit
`

// bgp has a session by each family with every node, for that family.
func (f frr) bgp() string {
	var neighbors, v4, v6 strings.Builder
	for _, n := range f.l.nodes {
		a := f.l.ground().lan(n.name)
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
