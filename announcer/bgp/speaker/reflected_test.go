package speaker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
)

// many are n prefixes of each family.
func many(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("198.19.%d.%d/32", i/250, i%250), fmt.Sprintf("fd98:19::%x:%x/128", i/250, i%250))
	}
	return out
}

// TestReflected: a router that sends every address back, to this session and to the
// others, ends no session, however many addresses there are.
func TestReflected(t *testing.T) {
	const each = 1100 // gobgp's limit, when it had one, was 1,000
	c := plain()
	c.Reflect = true
	everyRouter(t, c, func(t *testing.T, w world) {
		p := start(t, w.node)
		peers := []bgp.Peer{peer("four", router4, many(each)...), peer("six", router6, many(each)...)}
		p.sync(peers...)
		within(t, "all routes are in the kernel", func() bool { return strings.Count(routes(t, w.router), "via") >= 2*each })
		within(t, "the router has sent them back", func() bool { return w.Sent(t, node6) >= each })
		within(t, "the sessions have been up for a while", func() bool { return p.steady(3 * time.Second) })
		for _, st := range p.status() {
			if st.Flaps+st.Crashes != 0 || st.Prefixes != 2*each {
				t.Errorf("%s: %+v", st.Name, st)
			}
		}
	})
}
