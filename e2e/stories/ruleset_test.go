package stories

import "testing"

// ruleset is what a node's kernel holds of fairlead, of family "ip" or "ip6",
// without counters and times.
func ruleset(t *testing.T, node, family string) string {
	t.Helper()
	out, err := cluster(t).Exec(t.Context(), node, "nft", "--stateless", "list", "table", family, "fairlead")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
