package agent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/keyring"
	"github.com/fairlead/fairlead/internal/nodestate"
)

// states is an API server that has NodeStates.
type states struct {
	nodestate.Client
	keys map[string]string
	gets int
	down bool
}

func (s *states) Get(_ context.Context, node string, _ metav1.GetOptions) (*v1alpha1.NodeState, error) {
	s.gets++
	if s.down {
		return nil, errors.New("no API server")
	}
	key, ok := s.keys[node]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "nodestates"}, node)
	}
	return &v1alpha1.NodeState{Status: v1alpha1.NodeStateStatus{ReportKey: key}}, nil
}

// A key that does not fit is asked for, at once and then less and less often. The API's
// word counts: another key, or none.
func TestDoubtedKeyIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)), ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))
		api := &states{keys: map[string]string{"a": keyring.PublicOf(first), "b": keyring.PublicOf(first)}}
		var used keyring.Signers
		s := newSigners(&Config{Log: slog.New(slog.DiscardHandler)}, func(all keyring.Signers) { used = all })
		s.states = api
		told := keyring.Signers{}
		told.Set("a", keyring.PublicOf(first))
		told.Set("b", keyring.PublicOf(first))
		s.Set(told)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.loop.Run(ctx, s.step) }()
		defer func() { cancel(); <-done }()
		doubtFor := func(d time.Duration, node string) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				s.Doubt(node)
			}
			synctest.Wait()
		}
		doubtFor(10*time.Minute, "a") // somebody else speaks for it
		if api.gets < 5 || api.gets > 12 || !used["a"].Equal(first.Public()) {
			t.Errorf("in ten minutes the key was asked for %d times", api.gets)
		}
		api.keys["b"] = keyring.PublicOf(second)
		doubtFor(5*time.Second, "b")
		if !used["b"].Equal(second.Public()) || !used["a"].Equal(first.Public()) {
			t.Error("another key is not taken")
		}
		delete(api.keys, "b")
		doubtFor(5*time.Second, "b")
		if used["b"] != nil || used["a"] == nil {
			t.Error("a node that stopped signing still has a key")
		}
		told.Set("b", keyring.PublicOf(first))
		s.Set(told)
		api.down = true
		doubtFor(time.Minute, "b")
		if used["b"] == nil {
			t.Error("an API server that does not answer has taken a key away")
		}
	})
}

// The gossip doubts keys with a lock that it takes to use keys as well.
func TestKeysAreUsedWhileOthersAreDoubted(t *testing.T) {
	used := 0
	var s *signers
	s = newSigners(&Config{Log: slog.New(slog.DiscardHandler)}, func(keyring.Signers) { s.Doubt("a"); used++ })
	s.Set(keyring.Signers{})
	s.learn("a", keyring.PublicOf(ed25519.NewKeyFromSeed(make([]byte, 32))))
	if used != 2 || !s.doubted["a"] {
		t.Errorf("used %d times, doubted %v", used, s.doubted)
	}
}

// The key that a node signs with is made once, for root alone. One that cannot be read is
// replaced.
func TestReportKeyIsKept(t *testing.T) {
	dir := t.TempDir()
	first, err := reportKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := reportKey(dir)
	if err != nil || !again.Equal(first) {
		t.Errorf("another key after a restart, %v", err)
	}
	path := filepath.Join(dir, reportFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	if err := os.WriteFile(path, []byte("AAAA"), 0o600); err != nil {
		t.Fatal(err)
	}
	next, err := reportKey(dir)
	if err == nil || next == nil || next.Equal(first) {
		t.Errorf("a broken key: %v", err)
	}
	if again, err := reportKey(dir); err != nil || !again.Equal(next) {
		t.Errorf("the next key is not kept: %v", err)
	}
	if key, err := reportKey(""); err != nil || key == nil {
		t.Errorf("without a folder: %v", err)
	}
}
