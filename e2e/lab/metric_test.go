package lab

import "testing"

func TestLinkBytes(t *testing.T) {
	const text = `[{"ifname":"eth0","stats64":{"rx":{"bytes":100,"packets":2},"tx":{"bytes":11,"packets":1}}}]`
	if n, err := linkBytes([]byte(text)); err != nil || n != 111 {
		t.Errorf("got %d, %v", n, err)
	}
	for _, bad := range []string{"", "[]", "[{},{}]"} {
		if n, err := linkBytes([]byte(bad)); err == nil {
			t.Errorf("%q is %d bytes", bad, n)
		}
	}
}
