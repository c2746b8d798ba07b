// Package door decides who may see the page that the controller serves, and what of the
// cluster. The API server says whose a token is and what its owner may read.
package door

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/flowcontrol"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/internal/cli/survey"
)

// Audience is that of tokens that are good for this page and for nothing else. Tokens for
// the API server itself are good too.
const Audience = "fairlead.io/page"

// Lasts is how long an answer of the API server counts: so long may somebody still look
// whose token or right was taken away.
const Lasts = 10 * time.Second

// Why somebody does not get in.
var (
	ErrToken  = errors.New("the API server does not accept this token")
	ErrRights = errors.New("the token's owner may read nothing that the page shows: ask for the ClusterRole fairlead-support")
	ErrBusy   = errors.New("too many unknown tokens were tried: try again in a minute")
)

// Visitor is the owner of a token, and what they may read.
type Visitor struct {
	User string
	Has  []survey.Access
}

// What the door keeps and asks at most. Those whose token was good within remembered are
// never told to wait for those whose token was not.
const (
	mostKnown  = 1024
	remembered = time.Hour
	patience   = 5 * time.Second
	unknownQPS = 10
	unknownMax = 30
)

// Door asks the API server, and remembers the answers for Lasts. It is safe for concurrent
// use.
type Door struct {
	client  kubernetes.Interface
	asked   []survey.Access
	log     *slog.Logger
	unknown flowcontrol.PassiveRateLimiter

	mu    sync.Mutex
	known map[[sha256.Size]byte]*guest
}

// guest is what is known of one token.
type guest struct {
	mu      sync.Mutex // held while the API server is asked: once for all who wait
	asked   time.Time
	welcome time.Time // when it was good last
	visitor *Visitor
	err     error
}

// New returns a Door that asks about these accesses.
func New(client kubernetes.Interface, asked []survey.Access, log *slog.Logger) *Door {
	return &Door{client: client, asked: asked, log: log, unknown: flowcontrol.NewTokenBucketPassiveRateLimiter(unknownQPS, unknownMax), known: map[[sha256.Size]byte]*guest{}}
}

// token68 is what a bearer token is made of: RFC 6750 section 2.1.
var token68 = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

// mostToken is how long a token may be.
const mostToken = 8192

// Visitor returns whose token it is: ErrToken, ErrRights or ErrBusy if nobody's who may
// look, another error if the API server does not answer.
func (d *Door) Visitor(ctx context.Context, token string) (*Visitor, error) {
	if len(token) > mostToken || !token68.MatchString(token) {
		return nil, ErrToken
	}
	g := d.guest(sha256.Sum256([]byte(token)))
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.asked.IsZero() && time.Since(g.asked) < Lasts {
		return g.visitor, g.err
	}
	// One that was good is not held up by many that guess.
	if (g.welcome.IsZero() || time.Since(g.welcome) > remembered) && !d.unknown.TryAccept() {
		return nil, ErrBusy
	}
	// Somebody who goes away meanwhile does not spoil the answer for those who wait.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	v, err := d.review(ctx, token)
	if err != nil && !errors.Is(err, ErrToken) && !errors.Is(err, ErrRights) {
		return nil, err // nothing was learnt
	}
	if err == nil {
		if g.visitor == nil {
			d.log.Info("somebody looks at the page", "user", v.User)
		}
		g.welcome = time.Now()
	}
	g.visitor, g.err, g.asked = v, err, time.Now()
	return v, err
}

// guest returns what is known of a token, and makes room for it.
func (d *Door) guest(key [sha256.Size]byte) *guest {
	d.mu.Lock()
	defer d.mu.Unlock()
	if g := d.known[key]; g != nil {
		return g
	}
	if len(d.known) >= mostKnown {
		maps.DeleteFunc(d.known, func(_ [sha256.Size]byte, g *guest) bool { return g.forgettable() })
	}
	for k := range d.known { // all of them are fresh: any one is asked about again
		if len(d.known) < mostKnown {
			break
		}
		delete(d.known, k)
	}
	g := &guest{}
	d.known[key] = g
	return g
}

// forgettable reports whether nothing is lost without g. One that is being asked about is
// not.
func (g *guest) forgettable() bool {
	if !g.mu.TryLock() {
		return false
	}
	defer g.mu.Unlock()
	return time.Since(g.asked) >= Lasts && time.Since(g.welcome) >= remembered
}

// review asks the API server.
func (d *Door) review(ctx context.Context, token string) (*Visitor, error) {
	user, err := d.owner(ctx, token)
	if err != nil {
		return nil, err
	}
	may := make([]bool, len(d.asked))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i, a := range d.asked {
		g.Go(func() (err error) {
			may[i], err = d.may(ctx, user, a)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	v := &Visitor{User: user.Username}
	for i, a := range d.asked {
		if may[i] {
			v.Has = append(v.Has, a)
		}
	}
	if len(v.Has) == 0 {
		return nil, ErrRights
	}
	return v, nil
}

// owner returns whose token it is: one for this page, or one for the API server.
func (d *Door) owner(ctx context.Context, token string) (*authenticationv1.UserInfo, error) {
	for _, audiences := range [][]string{{Audience}, nil} {
		r, err := d.client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
			Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences},
		}, metav1.CreateOptions{})
		if err != nil {
			return nil, fmt.Errorf("token review: %w", err)
		}
		if r.Status.Authenticated {
			return &r.Status.User, nil
		}
	}
	return nil, ErrToken
}

func (d *Door) may(ctx context.Context, user *authenticationv1.UserInfo, a survey.Access) (bool, error) {
	extra := map[string]authorizationv1.ExtraValue{}
	for k, v := range user.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	r, err := d.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: a.Verb, Group: a.Group, Resource: a.Resource, Namespace: a.Namespace, Name: a.Name},
	}}, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("access review: %w", err)
	}
	return r.Status.Allowed && !r.Status.Denied, nil
}
