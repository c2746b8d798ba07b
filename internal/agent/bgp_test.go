package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/announcer/bgp/speaker"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// A stop leaves the sessions to end without a word, for the next agent to open
// again; one that is for good closes them.
func TestStopForGood(t *testing.T) {
	for name, forGood := range map[string]bool{"a restart": false, "for good": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "orders")
			if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chmod(file, 0o666), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
				t.Fatal(err)
			}
			// A session's process that writes its orders down. It runs as no user.
			session := func() *exec.Cmd {
				return exec.Command("sh", "-c", `while read -r order; do echo "$order" >>"$0"; echo '{}'; done`, file)
			}
			orders := func() string {
				data, _ := os.ReadFile(file) // none yet
				return string(data)
			}
			log := slog.New(slog.DiscardHandler)
			r := newRoutes(&Config{Log: log}, func() {}, func() {}, func() {}, func() bool { return forGood })
			r.speaker = speaker.New(log, func() {}, session)
			r.syncer = r.speaker
			r.unheld.withoutKernel()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { r.Run(ctx); close(done) }()
			peers := []bgp.Peer{{Name: "tor", Addr: netip.MustParseAddr("192.0.2.2")}}
			r.Give(1, node.Plan{Announce: node.Announcement{Routes: bgp.Plan{RouterID: netip.MustParseAddr("192.0.2.1"), Peers: peers}}})
			nstest.Eventually(t, "the session's first order", func() bool { return strings.Contains(orders(), "announce") })
			cancel()
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Fatal("it does not end")
			}
			if got := strings.Contains(orders(), `"Do":"close"`); got != forGood {
				t.Errorf("closed: %v\n%s", got, orders())
			}
		})
	}
}

// Passwords come from the Secrets that peers name; what is not there has none.
func TestPasswords(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "sys", Name: "tor"}, Data: map[string][]byte{"password": []byte("good")}}
	woken := 0
	r := newRoutes(&Config{
		Namespace: "sys", Log: slog.New(slog.DiscardHandler), Clients: &kube.Clients{Kube: fake.NewClientset(secret)},
	}, func() { woken++ }, func() {}, func() {}, func() bool { return false })
	tor, lost := snapshot.SecretKey{Name: "tor", Key: "password"}, snapshot.SecretKey{Name: "lost", Key: "password"}
	r.want(&snapshot.Snapshot{BGPPeers: []*snapshot.BGPPeer{{Secret: tor}, {Secret: lost}, {}}})
	for range 2 {
		if err := r.read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r.passwords[tor] != "good" || r.passwords[lost] != "" || woken != 1 {
			t.Errorf("passwords %v, woken %d times", r.passwords, woken)
		}
	}
}
