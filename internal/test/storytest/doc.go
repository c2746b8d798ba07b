// Package storytest reads the stories of the packages that decide: text files
// that say what is in a cluster, what is asked, and what comes out. Tests alone
// use it.
//
// # A story
//
// A story begins with a comment that says what it shows. Sections follow, each
// under a title such as "-- want --". A section "then" begins a new moment; in
// "then 20s" that moment is 20 seconds later. Sections may come again. The
// sections "cluster" and "then" change the cluster. Each test has sections of
// its own for what it asks and for what comes out; the flag -update accepts what
// came out.
//
// # The cluster
//
// Each line names one thing: its kind, its name, and attributes. Blank lines and
// lines that begin with # do nothing. An attribute is NAME=VALUE, or NAME alone
// for NAME=true. A value with spaces stands in double quotes, as in Go. A thing
// that is named again is edited: attributes that are not named stay, and NAME=
// sets one back to its default. Lists have commas. Things are created in the
// order of their first lines, a second apart, unless created=N says how many
// seconds after the beginning.
//
//	delete KIND NAME [IP:PORT]        an endpoint is named by its Service and its address
//	recreate KIND NAME                deletes it and creates it again: without a status, with another UID
//	option [class=C] [defaultClass=false]
//	                                  what the controller is told; by default it serves Services without a class
//
//	node NAME                         ready, with a network
//	  ips=A,B external=A,B pods=CIDRS zone=Z labels=K=V notready unheard nonetwork deleting unschedulable
//	  shutsdown taints=KEY,KEY
//	namespace NAME
//	  labels=K=V
//	servicecidr NAME CIDRS
//	agent NODE                        the NodeState of an agent that is in sync
//	  links=eth0:CIDR+CIDR,eth1:CIDR mac=MAC (of one more link eth0) outofsync draining
//	  director=able|WHY               it takes packets that others pass on, on all its links, or why it does not
//	  reaches=NODE,...                nodes of other subnets that get what it passes on
//	  drains=CAUSE,CAUSE stays=A,B unforwarded=IPv4,IPv6 v01
//	  keeps=POOL/NS/NAME/FAMILY[/ADDRESS],... why=TEXT
//	                                  what it says of DHCP leases
//	  dead                            other agents do not hear it: World.Alive
//	  lacks=A,B                       addresses that its engine does not hold yet: World.Lacks
//
//	pool NAME RANGES                  gives to everybody, without being asked
//	  labels=K=V priority=N auto=false avoidBuggyIPs disabled exclude=RANGES
//	  reserve=NS/NAME=ADDRESS,...     kept for this Service
//	  max=N                           addresses that a namespace may hold
//	  dhcp=LINK families=4,6          leased addresses, instead of RANGES
//	  leases=NS/NAME/FAMILY[/ADDRESS],... why=TEXT
//	  nodes[=K=V]                     the nodes' own addresses, instead of RANGES
//	  namespaces=A,B nsselector=K=V selector=K=V
//	  bad=TEXT                        a range that cannot be read, and why
//	address A                         a record
//	  lease=ID                        by a DHCP lease of the pool; NS.NAME in stories
//	  pool=P                          by default the pool that contains it, or "gone"
//	  node=NODE                       the node's own address
//	  key=K backend=TEXT              the share key, and what its holders have in common
//	  holder=NS/NAME[:UID[:PORT+PORT[:POOL]]],...
//	                                  UID is by default that of the Service made first under the name
//	  conflict=MAC deleting
//	announcement NAME                 of all pools and Services, by all nodes, over layer 2
//	  pool=K=V service=K=V node=K=V prefer=K=V:N+K=V:N interfaces=A,B refresh=T
//	  forwarding=Direct
//	  failback=Never drainon=CAUSE,CAUSE rebalance=TEXT
//	  bgp peers=A,B localpref=N communities=C,C large=C,C length=N length6=N
//	bgppeer NAME ADDR|link:NAME|gateway as=PEER/LOCAL
//	  port=N node=K=V hold=T keepalive=T secret=S source=A multihop=TTL ttlsecurity=N
//	  restart=T passive bfd=TX/RXxMULT
//
//	service NS/NAME
//	  type=T                          LoadBalancer by default
//	  ports=[NAME:]PROTO/PORT[/NODEPORT],...
//	                                  tcp/80 by default
//	  families=4,6 policy=T           ipFamilies and ipFamilyPolicy: Single, Prefer or Require. By default those of
//	                                  ip, else IPv4 alone, else both for Prefer and Require
//	  ip=A,B                          the cluster IPs. By default 10.96.0.10 and fd00::10, by family; "none" for none
//	  headless                        without cluster IPs, unless ip names some
//	  external=Local internal=Local   the traffic policies
//	  affinity=3h ranges=CIDRS externalIPs=A,B
//	  class=C labels=K=V selector=K=V uid=U deleting
//	  addresses=A,B pool=P key=K share=NS,NS forwarding=Direct
//	                                  fairlead's annotations; NAME= leaves one there that is empty
//	  note:ANNOTATION=TEXT loadBalancerIP=A
//	  status=A,B@Proxy,HOST
//	  held=A,B                        records with this holder, and the status. They are not edited with the Service
//	endpoint NS/NAME IP:PORT          of the Service, ready and serving
//	  port=NAME proto=P node=N zones=Z nodes=N unready unserving terminating
//
// What the agent of NODE says of more than its links; the agent has to be there:
//
//	announces NODE/ADDR[/LINK]        over BGP without a link
//	  mac=M peers=N leaving
//	unlisted NODE count=N             announced, and beyond what the API lists
//	refuses NODE/ADDR                 does not announce it
//	  reason=R why=TEXT
//	silent NODE/OTHER verdict=V quarantined
//	session NODE/PEER state=S why=TEXT
//	finds NODE/ADDR                   on the network
//	  uid=U probed=15:04:05 conflict=MAC claimant=MAC
//	problem NODE/NS/NAME[/N]          N makes another problem of the same Service
//	  reason=R text=TEXT
package storytest
