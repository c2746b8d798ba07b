package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/announcer"
)

// Text prints p, made at now, a line for each effect in the order of effects.
func (p Plan) Text(now time.Time) string {
	var b strings.Builder
	for _, c := range p.Withdraw.Claims {
		fmt.Fprintf(&b, "withdraw %s\n", c)
	}
	if r := p.Withdraw.Routes; r != nil {
		for _, peer := range r.Peers {
			fmt.Fprintf(&b, "withdraw all but %d paths from %s\n", len(peer.Paths), peer.Name)
		}
	}
	if len(p.Program.Quarantined) > 0 {
		fmt.Fprintf(&b, "program without the endpoints of %s\n", strings.Join(p.Program.Quarantined, ","))
	}
	p.Announce.print(&b, p.State)
	for _, r := range p.State.Refused {
		fmt.Fprintf(&b, "silent %s %s\n", r.Addr, r.Refusal)
	}
	if r := p.Report; r != nil {
		fmt.Fprintf(&b, "report in-sync=%t draining=%t", r.InSync, r.Draining)
		if r.DrainsFor != 0 {
			fmt.Fprintf(&b, " for=%s", r.DrainsFor)
		}
		if len(r.Stays) > 0 {
			fmt.Fprintf(&b, " stays=%v", r.Stays)
		}
		if len(r.Unforwarded) > 0 {
			fmt.Fprintf(&b, " unforwarded=%v", r.Unforwarded)
		}
		b.WriteByte('\n')
	}
	if !p.Wake.IsZero() {
		fmt.Fprintf(&b, "wake in %s\n", p.Wake.Sub(now))
	}
	return b.String()
}

func (a Announcement) print(b *strings.Builder, st State) {
	if a.Layer2 == nil {
		b.WriteString("leave the leases as they are\n")
	} else {
		for _, c := range a.Layer2.Claims {
			fmt.Fprintf(b, "hold %s%s\n", c, remarks(c, *a.Layer2, st))
		}
		for _, c := range a.Layer2.Disputed {
			fmt.Fprintf(b, "ask for %s\n", c)
		}
	}
	for _, peer := range a.Routes.Peers {
		for _, path := range peer.Paths {
			fmt.Fprintf(b, "route %s to %s\n", path, peer.Name)
		}
	}
}

// remarks says what is special about a claim.
func remarks(c announcer.Claim, set announcer.Set, st State) string {
	of := func(v announcer.VIP) bool { return v.Addr == c.Addr }
	turn, orphaned := set.Orphaned[c.Addr]
	switch {
	case slices.ContainsFunc(st.Leaving, of):
		return " until its next owner has it"
	case orphaned && turn > 0:
		return fmt.Sprintf(" once nobody answers, after %d others", turn)
	case orphaned:
		return " once nobody answers"
	}
	if i := slices.IndexFunc(st.Elected, of); i >= 0 && len(st.Elected[i].Heirs) > 0 {
		return " before " + strings.Join(st.Elected[i].Heirs, ", ")
	}
	return ""
}
