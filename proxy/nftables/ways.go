package nftables

import (
	"strconv"

	"github.com/fairlead/fairlead/internal/marks"
)

var (
	// Before anything is refused: a refusal is an answer too.
	hookWaysIn = &Hook{"filter", pointPrerouting, -111}
	// The routes are looked for behind these.
	hookAnswersIn  = &Hook{"filter", pointPrerouting, -150}
	hookAnswersOut = &Hook{"route", pointOutput, -150}
)

const chainAnswers = "answers"

// way is the chain that notes the link with a number in a connection's mark.
func way(number int) string { return "way-" + strconv.Itoa(number) }

// wayChains have answers leave by the link on which their connection came in. The first
// packet of a connection notes the link. The mark of an answer holds its number then,
// before the kernel looks for a route.
func (l *Layout) wayChains() []Chain {
	f := marks.Links(l.mark)
	answer := []Rule{l.rule(ctReply(), ctMarked(f.Mask()), jump(chainAnswers))}
	chains := []Chain{
		{"ways-prerouting", hookWaysIn, []Rule{
			l.rule(ctNew(), in(setVIPs, Daddr), vmap(mapWays, Iif)),
			l.rule(ctNew(), in(setExternalIPs, Daddr), vmap(mapWays, Iif)),
			l.rule(ctNew(), in(setNodePortIPs, Daddr), in(setNodePorts, Proto, Dport), vmap(mapWays, Iif)),
		}},
		// The routes may know a better router on that link than the only one in its table. The
		// kernel is asked when the destination is the endpoint, whose answers are routed: rules
		// of the administrator may be about their source.
		{"ways-translated", hookTranslated, []Rule{
			l.rule(ctNew(), ctMarked(f.Mask()), notIn(setVRFs, Iif), routeToSource(), ctSetField(f.Mask(), 0)),
			// The routes of a VRF lead to no pod, and the node's own routes not to the client.
			l.rule(in(setVRFs, Iif), ctMarked(f.Mask()), ctDNAT(), setField(f.Mask(), f.Of(marks.Inside))),
		}},
		{"answers-prerouting", hookAnswersIn, answer},
		{"answers-output", hookAnswersOut, answer},
	}
	back := Chain{Name: chainAnswers}
	for n := 1; n <= marks.MostLinks; n++ {
		chains = append(chains, Chain{way(n), nil, []Rule{l.rule(ctSetField(f.Mask(), f.Of(n)))}})
		back.Rules = append(back.Rules, l.rule(ctMarkIs(f.Mask(), f.Of(n)), setField(f.Mask(), f.Of(n)), ret()))
	}
	return append(chains, back)
}
