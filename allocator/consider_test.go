package allocator_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// consistent checks that Consider says of every pool what Decide acted on: the
// pool of what a Service holds gives, and a pool that could give leaves nobody
// without an address who asks for any.
func consistent(t *testing.T, s *snapshot.Snapshot, opt allocator.Options, p *allocator.Plan) {
	t.Helper()
	for _, o := range p.Services {
		seen := allocator.Consider(s, opt, o.Ref)
		for _, pool := range strings.FieldsFunc(o.Pool, func(r rune) bool { return r == ',' }) {
			if slices.ContainsFunc(seen, func(c allocator.Considered) bool { return c.Gives && c.Pool == pool }) {
				continue
			}
			t.Errorf("%s holds %v of pool %s, and Consider says %+v", o.Ref, o.Addrs, pool, seen)
		}
		idle := o.Refusal == nil || slices.Contains([]snapshot.Reason{
			allocator.InvalidRequest, allocator.ConflictingRequest, allocator.WrongFamily, allocator.TooLarge,
		}, o.Refusal.Reason)
		// Of several pools each has to give.
		idle = idle || strings.Contains(s.Service(o.Ref).Annotations[allocator.AnnotationPool], ",")
		could := slices.ContainsFunc(seen, func(c allocator.Considered) bool { return c.Reason == "" })
		if len(o.Addrs) == 0 && !idle && could {
			t.Errorf("%s gets nothing (%s), and Consider says %+v", o.Ref, o.Refusal, seen)
		}
		for _, c := range seen {
			if c.Message == "" {
				t.Errorf("%s: nothing is said of pool %s", o.Ref, c.Pool)
			}
		}
	}
}
