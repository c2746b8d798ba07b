package keyring

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/fairlead/fairlead/internal/snapshot"
)

func TestParse(t *testing.T) {
	good := Keys{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 16)}
	got, err := Parse(good.Format())
	if err != nil || fmt.Sprint(got) != fmt.Sprint(good) {
		t.Errorf("%v %v", got, err)
	}
	for text, want := range map[string]string{
		"": "no key", "\n\n": "no key", "!": "not base64", "AAAA": "3 bytes", strings.Repeat(string(good.Format()), 5): "10 keys",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestRotation: the Secret is made, and a rotation goes through its steps, so
// that two agents, one of them a step behind, always understand each other.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		k := Keeper{Client: client, Namespace: "ns", Log: slog.New(slog.DiscardHandler)}
		keep := func() (Keys, map[string]string) {
			t.Helper()
			if err := k.Keep(t.Context()); err != nil {
				t.Fatal(err)
			}
			s, err := client.CoreV1().Secrets("ns").Get(t.Context(), Secret, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			keys, err := Parse(s.Data[Data])
			if err != nil {
				t.Fatal(err)
			}
			return keys, s.Annotations
		}
		first, _ := keep()
		if again, _ := keep(); fmt.Sprint(again) != fmt.Sprint(first) || len(first) != 1 || len(first[0]) != Size {
			t.Fatal("the key is made once")
		}
		s, _ := client.CoreV1().Secrets("ns").Get(t.Context(), Secret, metav1.GetOptions{})
		s.Annotations = map[string]string{AnnotationRotate: "please"}
		if _, err := client.CoreV1().Secrets("ns").Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		var seen []string
		before := first
		for range 8 {
			keys, notes := keep()
			if fmt.Sprint(keys) != fmt.Sprint(before) {
				seen = append(seen, fmt.Sprintf("%d %s", len(keys), strings.Fields(notes[AnnotationRotation] + " resting")[0]))
				reads := func(keys Keys, key []byte) bool { return bytes.Contains(keys.Format(), Keys{key}.Format()) }
				if !reads(keys, before[0]) || !reads(before, keys[0]) {
					t.Error("who is a step behind does not understand, or is not understood")
				}
			}
			before = keys
			time.Sleep(Pause / 2)
		}
		if want := "[2 added 2 switched 1 resting]"; fmt.Sprint(seen) != want || bytes.Equal(before[0], first[0]) {
			t.Errorf("steps %v, want %s", seen, want)
		}
	})
}

// TestSigners: the Secret names the key of each node that has one, and agents read it.
// A controller that does not know the cluster changes nothing.
func TestSigners(t *testing.T) {
	client := fake.NewClientset()
	var s *snapshot.Snapshot
	k := Keeper{Client: client, Namespace: "ns", Log: slog.New(slog.DiscardHandler), Snapshot: func() *snapshot.Snapshot { return s }}
	keep := func() (Signers, int) {
		t.Helper()
		client.ClearActions()
		if err := k.Keep(t.Context()); err != nil {
			t.Fatal(err)
		}
		writes := 0
		for _, a := range client.Actions() {
			if a.GetVerb() == "update" {
				writes++
			}
		}
		secret, err := client.CoreV1().Secrets("ns").Get(t.Context(), Secret, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseSigners(secret.Data[DataSigners])
		if err != nil {
			t.Fatal(err)
		}
		return got, writes
	}
	keep()
	if got, writes := keep(); got != nil || writes != 0 {
		t.Errorf("nothing is known: %v, %d writes", got, writes)
	}
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	state := func(node, key string) *snapshot.NodeState {
		return &snapshot.NodeState{Electable: snapshot.Electable{Node: node}, ReportKey: key}
	}
	s = &snapshot.Snapshot{
		Nodes:      []*snapshot.Node{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}},
		NodeStates: []*snapshot.NodeState{state("a", PublicOf(key)), state("b", ""), state("c", "nonsense"), state("gone", PublicOf(key))},
	}
	for _, writes := range []int{1, 0} {
		got, n := keep()
		if len(got) != 1 || !got["a"].Equal(key.Public()) || n != writes {
			t.Errorf("%v, %d writes, want %d", got, n, writes)
		}
	}
	s.NodeStates[0].ReportKey = "" // version 0.1 again
	if got, _ := keep(); got == nil || len(got) != 0 {
		t.Errorf("nobody signs: %v", got)
	}
	for _, text := range []string{"a", "a AAAA", "a " + PublicOf(key) + " b"} {
		if got, err := ParseSigners([]byte(text)); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
	if PublicOf(nil) != "" {
		t.Error("no key has a public half")
	}
}

// FuzzSigners: whatever the Secret holds, no panic; what was read is written and read
// alike.
func FuzzSigners(f *testing.F) {
	f.Add([]byte("a O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik=\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSigners(text)
		if err != nil {
			return
		}
		if again, err := ParseSigners(s.Format()); err != nil || len(again) != len(s) {
			t.Errorf("%v became %v, %v", s, again, err)
		}
	})
}

// TestBroken: keys that somebody broke are not replaced: agents still use them.
func TestBroken(t *testing.T) {
	client := fake.NewClientset()
	k := Keeper{Client: client, Namespace: "ns", Log: slog.New(slog.DiscardHandler)}
	if err := k.Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, _ := client.CoreV1().Secrets("ns").Get(t.Context(), Secret, metav1.GetOptions{})
	s.Data[Data] = []byte("x")
	if _, err := client.CoreV1().Secrets("ns").Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := k.Keep(t.Context()); err == nil {
		t.Error("no error")
	}
}
