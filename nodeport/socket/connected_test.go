package socket_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/nodeport/socket"
)

// Where a process is connected is found by the port at the other end, in the order of the
// ports that are asked for.
func TestConnected(t *testing.T) {
	node := nstest.New(t, "node")
	var got []netip.AddrPort
	node.Do(t, func() error {
		var lc net.ListenConfig
		for _, at := range []string{"127.0.0.1:443", "127.0.0.2:6443", "[::1]:6443", "127.0.0.1:30001"} {
			l, err := lc.Listen(context.Background(), "tcp", at)
			if err != nil {
				return err
			}
			defer l.Close()
			for range 2 {
				c, err := net.Dial("tcp", at)
				if err != nil {
					return err
				}
				defer c.Close()
			}
		}
		var err error
		got, err = socket.Connected(6443, 443)
		return err
	})
	if want := "[127.0.0.2:6443 [::1]:6443 127.0.0.1:443]"; fmt.Sprint(got) != want {
		t.Errorf("connected to %v, want %s", got, want)
	}
}
