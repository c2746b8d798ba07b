package storytest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/test/storytest"
)

// TestSteps: "then" begins a step, and the durations in its titles add up.
func TestSteps(t *testing.T) {
	const text = "# What it shows.\n-- cluster --\na\n-- want --\nb\n-- then 20s --\nc\n-- view --\nd\n-- want --\ne\n-- then --\n-- then 1m30s --\n-- on n1 x=y --\nf\n"
	s := storytest.Parse([]byte(text))
	var got strings.Builder
	for _, step := range s.Steps(t) {
		fmt.Fprintf(&got, "%s:", step.Elapsed)
		for _, sec := range step.Sections {
			fmt.Fprintf(&got, " %s(%s)=%q", sec.Kind(), sec.Args(), sec.Text)
		}
		got.WriteString("\n")
	}
	const want = "0s: cluster()=\"a\\n\" want()=\"b\\n\"\n" +
		"20s: then(20s)=\"c\\n\" view()=\"d\\n\" want()=\"e\\n\"\n" +
		"20s: then()=\"\"\n" +
		"1m50s: then(1m30s)=\"\" on(n1 x=y)=\"f\\n\"\n"
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", &got, want)
	}
	if string(s.Format()) != text {
		t.Errorf("formatted\n%s", s.Format())
	}
}

// TestStepsWithoutDuration: a title that is not a duration fails the test.
func TestStepsWithoutDuration(t *testing.T) {
	for _, title := range []string{"then soon", "then -1s", "then 20"} {
		s := storytest.Parse([]byte("-- cluster --\n-- " + title + " --\n"))
		if f := failure(func(t testing.TB) { s.Steps(t) }); !strings.Contains(f, "want a duration") {
			t.Errorf("%s: failed with %q", title, f)
		}
	}
}

// TestWant: what differs fails the test, and the section then holds what came out.
func TestWant(t *testing.T) {
	sec := &storytest.Section{Name: "want", Text: "a\n"}
	if f := failure(func(t testing.TB) { sec.Want(t, "a\n") }); f != "" {
		t.Errorf("the same fails with %q", f)
	}
	if f := failure(func(t testing.TB) { sec.Want(t, "b\n") }); !strings.Contains(f, "-- want --\na\n-- got --\nb\n") || sec.Text != "b\n" {
		t.Errorf("another fails with %q and leaves %q", f, sec.Text)
	}
}

// failure returns how do fails, "" if it does not.
func failure(do func(testing.TB)) string {
	r := &recorder{}
	func() {
		defer func() {
			if got := recover(); got != nil && got != any(r) {
				panic(got)
			}
		}()
		do(r)
	}()
	return r.text
}

// recorder notes a failure instead of failing.
type recorder struct {
	testing.TB
	text string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) { r.text = fmt.Sprintf(format, args...) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.text = fmt.Sprintf(format, args...)
	panic(r)
}
