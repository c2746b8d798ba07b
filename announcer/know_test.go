package announcer

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// made returns addresses, each with the second in which it was made: "10:5 11:6".
func made(text string) (out []*snapshot.Address) {
	for _, word := range strings.Fields(text) {
		var last, second int64
		if _, err := fmt.Sscanf(word, "%d:%d", &last, &second); err != nil {
			panic(err)
		}
		a := &snapshot.Address{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(last)})}
		if second > 0 {
			a.Created = time.Unix(second, 0)
		}
		out = append(out, a)
	}
	return out
}

// TestKnowledge: an agent that knows some addresses, where these are all that there are,
// lacks the others. Of two that were made in one second it may lack either.
func TestKnowledge(t *testing.T) {
	for _, tt := range []struct{ name, knows, all, lacks string }{
		{"all", "10:5 11:6", "10:5 11:6", ""},
		{"one is new", "10:5", "10:5 11:6 12:7", "192.0.2.11 192.0.2.12"},
		{"all are new", "", "10:5", "192.0.2.10"},
		{"none", "", "", ""},
		{"two of one second", "10:5 11:6", "10:5 11:6 12:6", "192.0.2.11 192.0.2.12"},
		{"it knows more", "10:5 11:6 12:7", "10:5 11:6", ""},
		{"it has not heard that one is gone", "10:5 11:6 12:6", "10:5 11:6", ""},
		{"an address without a time", "10:5", "10:5 11:0", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, all := KnowledgeOf(made(tt.knows)), made(tt.all)
			lacks := k.Lacks(all)
			var got []string
			for _, a := range all {
				if lacks[a.Addr] {
					got = append(got, a.Addr.String())
				}
			}
			if strings.Join(got, " ") != tt.lacks || lacks != nil && len(lacks) == 0 {
				t.Errorf("who knows %+v lacks %v, want %s", k, lacks, tt.lacks)
			}
		})
	}
	if lacks := (Knowledge{}).Lacks(made("10:5")); lacks != nil {
		t.Errorf("an agent of an earlier version lacks %v", lacks)
	}
}
