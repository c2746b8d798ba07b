package nodeport_test

import (
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
)

var row = regexp.MustCompile("(?m)^\\| (none|`[0-9./]+`) \\| ([0-9., ]+|nothing) \\|$")

// TestDocs: the table of examples in docs/nodeport.md is what comes out.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile("../docs/nodeport.md")
	if err != nil {
		t.Fatal(err)
	}
	node := &snapshot.Node{InternalIPs: each("198.51.100.1", netip.MustParseAddr)}
	links := each("127.0.0.1 198.51.100.1 198.51.100.101 203.0.113.5", netip.MustParseAddr)
	rows := row.FindAllStringSubmatch(string(data), -1)
	if len(rows) != 5 {
		t.Fatalf("the table has %d examples", len(rows))
	}
	clean := strings.NewReplacer("`", "", "none", "", "nothing", "", ",", "")
	for _, r := range rows {
		got := nodeport.Resolve(node, links, each(clean.Replace(r[1]), netip.MustParsePrefix))
		if join(got) != clean.Replace(r[2]) {
			t.Errorf("%s: answers on %s, the page says %s", r[1], join(got), r[2])
		}
	}
}
