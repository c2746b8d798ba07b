package snapshot_test

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
)

func TestParsePortRanges(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "",
		"  ":                              "",
		"5060":                            "5060/tcp,5060/udp,5060/sctp",
		"10000-20000/udp":                 "10000-20000/udp",
		"10000-20000/UDP , 5060/tcp":      "5060/tcp,10000-20000/udp",
		"all":                             "all/tcp,all/udp,all/sctp",
		"all/tcp":                         "all/tcp",
		"1-65535/udp":                     "all/udp",
		"1-5/udp,6-9/udp,8/udp,11/udp":    "1-9/udp,11/udp",
		"65000-65535/tcp,65535/tcp":       "65000-65535/tcp",
		"7-7/sctp":                        "7/sctp",
		"0/udp":                           "! entry 1 has a port that is not a number from 1 to 65535",
		"1-65536":                         "! entry 1 has a port that is not a number from 1 to 65535",
		"-5":                              "! entry 1 has a port that is not a number from 1 to 65535",
		"5-":                              "! entry 1 has a port that is not a number from 1 to 65535",
		"5060/udp,20000-10000/udp":        "! entry 2 ends at port 10000, before its first port 20000",
		"5060/icmp":                       "! entry 1 has a protocol that is none of tcp, udp and sctp",
		"5060/":                           "! entry 1 has a protocol that is none of tcp, udp and sctp",
		"5060,,5061":                      "! entry 2 has a port that is not a number from 1 to 65535",
		"any/tcp":                         "! entry 1 has a port that is not a number from 1 to 65535",
		strings.Repeat("1/tcp,", 3) + "2": "1-2/tcp,2/udp,2/sctp",
	} {
		ranges, err := snapshot.ParsePortRanges(text)
		got := snapshot.PortRangesText(ranges)
		if err != nil {
			got = "! " + err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func FuzzPortRanges(f *testing.F) {
	f.Add("all,10000-20000/udp,5060/tcp")
	f.Fuzz(func(t *testing.T, text string) {
		ranges, err := snapshot.ParsePortRanges(text)
		if err != nil {
			return
		}
		again, err := snapshot.ParsePortRanges(snapshot.PortRangesText(ranges))
		if err != nil || snapshot.PortRangesText(again) != snapshot.PortRangesText(ranges) {
			t.Errorf("%q is %v, and that is %v (%v)", text, ranges, again, err)
		}
		for i, r := range ranges {
			if r.First == 0 || r.Last < r.First || i > 0 && ranges[i-1].Protocol == r.Protocol && int(ranges[i-1].Last)+1 >= int(r.First) {
				t.Errorf("%q: %v", text, ranges)
			}
		}
	})
}
