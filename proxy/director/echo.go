package director

// Echo is what another node says of one round of test packets that this node sent it over
// a link: each with another source, and otherwise alike.
type Echo struct {
	Own    bool // what came from this node's own address arrived
	Client bool // what came from an address like a client's arrived: an owner passes on such
	VIP    bool // what came from a VIP arrived: a pod's node answers with such
}

// EnoughEchoes is how many rounds have to agree that the network drops something. One lost
// packet shows nothing.
const EnoughEchoes = 3

// Dropped says what of a node's packets its network drops because their source is not the
// node's own, given the rounds with all nodes on a link; "" if it drops none, or if that is
// not known. A round in which even the packet from the own address got lost does not count.
// One packet that arrived shows that its kind may pass.
func Dropped(rounds []Echo) string {
	counted, clients, vips := 0, 0, 0
	for _, r := range rounds {
		if !r.Own {
			continue
		}
		counted++
		if r.Client {
			clients++
		}
		if r.VIP {
			vips++
		}
	}
	switch {
	case counted < EnoughEchoes || clients > 0 && vips > 0:
		return ""
	case clients > 0:
		return "the network drops what this node sends from a VIP (protection from spoofing): clients would get no answer"
	case vips > 0:
		return "the network drops what this node sends from a client's address (protection from spoofing): it cannot pass packets on"
	}
	return "the network drops what this node sends from addresses that are not its own (protection from spoofing)"
}
