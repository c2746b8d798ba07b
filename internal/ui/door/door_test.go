package door

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fairlead/fairlead/internal/cli/survey"
)

var (
	services = survey.Access{Verb: "list", Resource: "services"}
	pools    = survey.Access{Verb: "list", Group: "fairlead.io", Resource: "addresspools"}
)

// api is an API server that knows tokens, and counts what it is asked.
type api struct {
	mu      sync.Mutex
	owners  map[string]string   // of tokens for the API server
	forPage map[string]string   // of tokens for the page alone
	may     map[string][]string // resources, by user
	down    error
	tokens  int
	rights  int
}

func (a *api) client() *fake.Clientset {
	c := fake.NewClientset()
	c.PrependReactor("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.tokens++
		r := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		owners := a.owners
		if slices.Contains(r.Spec.Audiences, Audience) {
			owners = a.forPage
		}
		r.Status.User.Username = owners[r.Spec.Token]
		r.Status.User.Groups = []string{"system:authenticated"}
		r.Status.Authenticated = r.Status.User.Username != ""
		return true, r, a.down
	})
	c.PrependReactor("create", "subjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.rights++
		r := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		r.Status.Allowed = slices.Contains(a.may[r.Spec.User], r.Spec.ResourceAttributes.Resource) && slices.Contains(r.Spec.Groups, "system:authenticated")
		return true, r, a.down
	})
	return c
}

func (a *api) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

func door(a *api) *Door {
	return New(a.client(), []survey.Access{services, pools}, slog.New(slog.DiscardHandler))
}

// The answer of the API server counts for 10 seconds, whatever it was, and no longer.
func TestAnswersLastTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{owners: map[string]string{"good": "ann", "poor": "bob"}, forPage: map[string]string{"own": "ann"}, may: map[string][]string{"ann": {"services"}}}
		d := door(a)
		check := func(token, want string, wantErr error, asked bool) {
			t.Helper()
			before := a.tokens
			v, err := d.Visitor(t.Context(), token)
			got := ""
			if v != nil {
				got = fmt.Sprint(v.User, " ", v.Has)
			}
			if got != want || !errors.Is(err, wantErr) {
				t.Errorf("%s is %q, %v; want %q, %v", token, got, err, want, wantErr)
			}
			if (a.tokens > before) != asked {
				t.Errorf("%s: the API server is asked: %v", token, !asked)
			}
		}
		ann := fmt.Sprint("ann ", []survey.Access{services})
		check("good", ann, nil, true)
		check("own", ann, nil, true)
		check("poor", "", ErrRights, true)
		check("bad", "", ErrToken, true)
		a.set(func() { // everything changes
			a.owners = map[string]string{"poor": "bob", "bad": "ann"}
			a.forPage = nil
			a.may["bob"] = []string{"services", "addresspools"}
		})
		time.Sleep(Lasts - time.Millisecond)
		check("good", ann, nil, false)
		check("own", ann, nil, false)
		check("poor", "", ErrRights, false)
		check("bad", "", ErrToken, false)
		time.Sleep(time.Millisecond)
		check("good", "", ErrToken, true)
		check("own", "", ErrToken, true)
		check("poor", fmt.Sprint("bob ", []survey.Access{services, pools}), nil, true)
		check("bad", ann, nil, true)
		a.set(func() { a.may["ann"] = nil })
		time.Sleep(Lasts)
		check("bad", "", ErrRights, true)
	})
}

// While the API server does not answer nobody is let in whose answer is too old, and the
// first answer after that counts.
func TestClosedWithoutAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{owners: map[string]string{"good": "ann"}, may: map[string][]string{"ann": {"services"}}}
		d := door(a)
		if _, err := d.Visitor(t.Context(), "good"); err != nil {
			t.Fatal(err)
		}
		a.set(func() { a.down = errors.New("connection refused") })
		time.Sleep(Lasts)
		for range 2 {
			if v, err := d.Visitor(t.Context(), "good"); v != nil || err == nil || errors.Is(err, ErrToken) {
				t.Errorf("%v, %v", v, err)
			}
		}
		a.set(func() { a.down = nil })
		if _, err := d.Visitor(t.Context(), "good"); err != nil {
			t.Error(err)
		}
	})
}

// Many requests with one token are one question.
func TestOneQuestionForAll(t *testing.T) {
	a := &api{owners: map[string]string{"good": "ann"}, may: map[string][]string{"ann": {"services"}}}
	d := door(a)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := d.Visitor(t.Context(), "good"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if a.tokens != 2 || a.rights != 2 { // two audiences, two accesses
		t.Errorf("%d questions about the token, %d about rights", a.tokens, a.rights)
	}
}

// Somebody who tries tokens makes the API server work a little, keeps out nobody who was
// let in before, and fills no memory. What is not a token is not asked about.
func TestGuessedTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{owners: map[string]string{"good": "ann"}, may: map[string][]string{"ann": {"services"}}}
		d := door(a)
		if _, err := d.Visitor(t.Context(), "good"); err != nil {
			t.Fatal(err)
		}
		for _, token := range []string{"", "a b", "a\nb", "Bearer x", strings.Repeat("a", 9000), "ü", "a=b"} {
			if _, err := d.Visitor(t.Context(), token); !errors.Is(err, ErrToken) {
				t.Errorf("%.20q: %v", token, err)
			}
		}
		before, busy := a.tokens, 0
		for i := range 5000 {
			_, err := d.Visitor(t.Context(), fmt.Sprint("guess", i))
			if errors.Is(err, ErrBusy) {
				busy++
			}
		}
		if asked := a.tokens - before; asked > 2*unknownMax || busy < 4900 || len(d.known) > mostKnown {
			t.Errorf("%d questions, %d of 5000 refused, %d kept", asked, busy, len(d.known))
		}
		time.Sleep(Lasts)
		for i := range 200 { // no room for new ones
			_, _ = d.Visitor(t.Context(), fmt.Sprint("more", i))
		}
		if _, err := d.Visitor(t.Context(), "good"); err != nil {
			t.Errorf("who was let in is not any longer: %v", err)
		}
	})
}

// A visitor who goes away while the API server is asked does not spoil the answer.
func TestVisitorGoesAway(t *testing.T) {
	a := &api{owners: map[string]string{"good": "ann"}, may: map[string][]string{"ann": {"services"}}}
	d := door(a)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Visitor(ctx, "good"); err != nil {
		t.Error(err)
	}
}

// No token is in the log.
func TestTokensAreNotLogged(t *testing.T) {
	a := &api{owners: map[string]string{"s3cret": "ann"}, may: map[string][]string{"ann": {"services"}}}
	var text bytes.Buffer
	d := New(a.client(), []survey.Access{services}, slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug})))
	for _, token := range []string{"s3cret", "s3cret-wrong"} {
		_, err := d.Visitor(t.Context(), token)
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Error(err)
		}
	}
	if !strings.Contains(text.String(), "user=ann") || strings.Contains(text.String(), "s3cret") {
		t.Errorf("the log is %s", text.String())
	}
}

// A cookie is opened by the page alone, until its end, and only as it was.
func TestSeal(t *testing.T) {
	key, end := bytes.Repeat([]byte{1}, 32), time.Unix(1_800_000_000, 0)
	value, err := Seal(key, "token", end)
	if err != nil || strings.Contains(value, "token") {
		t.Fatal(value, err)
	}
	if got, err := Open(key, value, end.Add(-time.Second)); got != "token" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if again, _ := Seal(key, "token", end); again == value {
		t.Error("the same token is the same cookie")
	}
	for what, c := range map[string]struct {
		key   []byte
		value string
		now   time.Time
	}{
		"too late":     {key, value, end},
		"another key":  {bytes.Repeat([]byte{2}, 32), value, end.Add(-time.Second)},
		"cut":          {key, value[:len(value)-2], end.Add(-time.Second)},
		"changed":      {key, "A" + value[1:], end.Add(-time.Second)},
		"nothing":      {key, "", end.Add(-time.Second)},
		"not base64":   {key, "!", end.Add(-time.Second)},
		"a token":      {key, "eyJhbGciOiJSUzI1NiIsImtpZCI6IiJ9", end.Add(-time.Second)},
		"a broken key": {key[:3], value, end.Add(-time.Second)},
	} {
		if got, err := Open(c.key, c.value, c.now); err == nil || got != "" {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}
