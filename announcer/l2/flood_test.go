package l2

import (
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

var measure = flag.Bool("measure", false, "flood for 10 s at 100,000 frames a second, and print what it costs")

// floodEnv makes this program the flood: it sends as many ARP requests on eth0 as
// belong to the time that the variable says, from and for addresses that are
// nobody's, and prints their number.
const floodEnv = "L2_TEST_FLOOD"

const (
	floodRate = 100_000 // frames a second
	floodTick = 2 * time.Millisecond
)

func flood(during string) error {
	d, err := time.ParseDuration(during)
	if err != nil {
		return err
	}
	ifi, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	frame, err := arpFrame(arp.OperationRequest, ifi.HardwareAddr, netip.MustParseAddr("198.19.0.1"), make(net.HardwareAddr, 6), netip.MustParseAddr("198.19.0.2"))
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	to := &unix.SockaddrLinklayer{Ifindex: ifi.Index, Halen: 6}
	copy(to.Addr[:], frame)
	sent, all, began := 0, int(d.Seconds()*floodRate), time.Now()
	for now := began; sent < all && now.Sub(began) < 3*d; now = time.Now() {
		for due := int(now.Sub(began).Seconds() * floodRate); sent < min(due, all); sent++ {
			binary.BigEndian.PutUint16(frame[arpTarget+2:], uint16(sent))
			if err := unix.Sendto(fd, frame, 0, to); err != nil {
				return fmt.Errorf("frame %d: %w", sent, err)
			}
		}
		time.Sleep(floodTick) // the pace
	}
	fmt.Println(sent)
	return nil
}

// A flood of ARP requests for addresses that are nobody's does not reach the
// process, and the VIPs are answered meanwhile.
func TestFloodOfForeignARP(t *testing.T) {
	during, count := time.Second, 20
	if *measure {
		during, count = 10*time.Second, 180
	}
	l := newLAN(t)
	// Something has to answer pings, and not the requests for its address.
	l.node.Run(t, "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1")
	l.node.Run(t, "ip", "addr", "add", vip4.String()+"/32", "dev", "lo")
	ls := l.holder()
	l.run(t, ls)
	l.sync(t, ls, on4, on6)
	nstest.Eventually(t, "it has been announced", func() bool {
		ls.mu.Lock()
		defer ls.mu.Unlock()
		return len(ls.bursts) == 0
	})
	cmd := exec.Command("ip", "netns", "exec", l.client.Name, os.Args[0])
	cmd.Env = append(os.Environ(), floodEnv+"="+during.String())
	before, began := cpuTime(t), time.Now()
	answered := make(chan string, 1)
	go func() {
		out, _ := l.client.Try("ping", "-q", "-i", "0.05", "-c", strconv.Itoa(count), "-W", "10", vip4.String())
		answered <- out
	}()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the flood: %v\n%s", err, out)
	}
	took, used := time.Since(began), cpuTime(t)-before
	var sent int
	if _, err := fmt.Sscan(string(out), &sent); err != nil || sent < int(during.Seconds()*floodRate/10) {
		t.Fatalf("the flood was %q frames, %v", out, err)
	}
	pinged := <-answered
	if _, received := pings(t, pinged); received != count {
		t.Errorf("of %d requests to the VIP %d were answered:\n%s", count, received, pinged)
	}
	heard := 0.0
	for _, kind := range []string{"claim", "other", "late"} {
		heard += testutil.ToFloat64(ls.Metrics.frames.WithLabelValues(kind))
	}
	if heard != 0 {
		t.Errorf("%v frames of %d reached the process", heard, sent)
	}
	if *measure {
		fmt.Printf("bench-arp-flood: %d foreign ARP requests in %.1f s (%.0f/s): %v reached the process, which used %.2f %% of a core; %d of %d pings to the VIP answered\n",
			sent, took.Seconds(), float64(sent)/took.Seconds(), heard, 100*used.Seconds()/took.Seconds(), count, count)
		if used > took/10 {
			t.Errorf("%v of CPU in %v", used, took)
		}
	}
}

// pings reads ping's summary.
func pings(t *testing.T, out string) (sent, received int) {
	t.Helper()
	for line := range strings.Lines(out) {
		if n, _ := fmt.Sscanf(line, "%d packets transmitted, %d received", &sent, &received); n == 2 {
			return sent, received
		}
	}
	t.Fatalf("ping said\n%s", out)
	return 0, 0
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
