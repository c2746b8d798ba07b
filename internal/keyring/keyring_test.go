package keyring

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
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
// that two agents of which one is a step behind always understand each other.
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
