package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestConntrack(t *testing.T) {
	dir := t.TempDir()
	if n := testutil.CollectAndCount(conntrack{dir}); n != 0 {
		t.Errorf("%d metrics without the kernel's module", n)
	}
	at := filepath.Join(dir, "net/netfilter")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"nf_conntrack_count": "7\n", "nf_conntrack_max": "262144\n"} {
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const want = `
# HELP fairlead_conntrack_entries Connections that the node's kernel tracks.
# TYPE fairlead_conntrack_entries gauge
fairlead_conntrack_entries 7
# HELP fairlead_conntrack_limit How many connections the node's kernel can track. It drops packets of further connections.
# TYPE fairlead_conntrack_limit gauge
fairlead_conntrack_limit 262144
`
	if err := testutil.CollectAndCompare(conntrack{dir}, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
