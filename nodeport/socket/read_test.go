package socket_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/nodeport"
	"github.com/fairlead/fairlead/nodeport/socket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Sockets that new packets can reach are found, with the families that they
// take; connections are not.
func TestRead(t *testing.T) {
	node := nstest.New(t, "node")
	var open []io.Closer
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	var got []string
	node.Do(t, func() error {
		var lc net.ListenConfig
		var errs []error
		keep := func(c io.Closer, err error) {
			if errs = append(errs, err); err == nil {
				open = append(open, c)
			}
		}
		tcp := func(network, addr string) { l, err := lc.Listen(context.Background(), network, addr); keep(l, err) }
		udp := func(network, addr string) {
			l, err := lc.ListenPacket(context.Background(), network, addr)
			keep(l, err)
		}
		tcp("tcp4", "0.0.0.0:30001")
		tcp("tcp6", "[::]:30002")
		tcp("tcp", ":30003")
		tcp("tcp4", "127.0.0.1:30004")
		udp("udp4", "127.0.0.1:30005")
		udp("udp", ":30006")
		keep(net.Dial("tcp4", "127.0.0.1:30004"))
		keep(net.Dial("udp4", "127.0.0.1:30005"))
		sockets, err := socket.Read()
		for _, s := range sockets {
			got = append(got, describe(s))
		}
		return errors.Join(append(errs, err)...)
	})
	slices.Sort(got)
	want := "tcp 0.0.0.0:30001\ntcp 127.0.0.1:30004\ntcp [::]:30002\ntcp [::]:30003 both\nudp 127.0.0.1:30005\nudp [::]:30006 both"
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

func describe(s nodeport.Socket) string {
	text := s.Protocol.String() + " " + s.Addr.String()
	if s.Both {
		text += " both"
	}
	return text
}
