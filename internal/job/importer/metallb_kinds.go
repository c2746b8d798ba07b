package importer

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// The kinds of MetalLB (group metallb.io, v1beta1 and v1beta2), as far as they
// have an equal. What they have beside this is found by the strict reading.

type addressPool struct {
	meta
	Spec struct {
		Addresses         []string `json:"addresses"`
		AutoAssign        *bool    `json:"autoAssign"`
		AvoidBuggyIPs     bool     `json:"avoidBuggyIPs"`
		ServiceAllocation *struct {
			Priority           int32                  `json:"priority"`
			Namespaces         []string               `json:"namespaces"`
			NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors"`
			ServiceSelectors   []metav1.LabelSelector `json:"serviceSelectors"`
		} `json:"serviceAllocation"`
	} `json:"spec"`
}

// pools is how both kinds of advertisement select pools: any of the two.
type pools struct {
	IPAddressPools         []string               `json:"ipAddressPools"`
	IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors"`
}

type l2Advertisement struct {
	meta
	Spec struct {
		pools
		NodeSelectors    []metav1.LabelSelector `json:"nodeSelectors"`
		ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors"`
		Interfaces       []string               `json:"interfaces"`
	} `json:"spec"`
}

type bgpAdvertisement struct {
	meta
	Spec struct {
		pools
		AggregationLength   *int32                 `json:"aggregationLength"`
		AggregationLengthV6 *int32                 `json:"aggregationLengthV6"`
		LocalPref           int64                  `json:"localPref"`
		Communities         []string               `json:"communities"`
		NodeSelectors       []metav1.LabelSelector `json:"nodeSelectors"`
		ServiceSelectors    []metav1.LabelSelector `json:"serviceSelectors"`
		Peers               []string               `json:"peers"`
	} `json:"spec"`
}

type bgpPeer struct {
	meta
	Spec struct {
		MyASN          int64            `json:"myASN"`
		PeerASN        int64            `json:"peerASN"`
		PeerAddress    string           `json:"peerAddress"`
		PeerPort       int32            `json:"peerPort"`
		SourceAddress  string           `json:"sourceAddress"`
		HoldTime       *metav1.Duration `json:"holdTime"`
		KeepaliveTime  *metav1.Duration `json:"keepaliveTime"`
		ConnectTime    *metav1.Duration `json:"connectTime"`
		NodeSelectors  []nodeSelector   `json:"nodeSelectors"`
		Password       string           `json:"password"`
		PasswordSecret struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"passwordSecret"`
		BFDProfile            string `json:"bfdProfile"`
		EnableGracefulRestart bool   `json:"enableGracefulRestart"`
		EBGPMultiHop          bool   `json:"ebgpMultiHop"`
	} `json:"spec"`
}

// nodeSelector is a LabelSelector, or in v1beta1 one with the operators of a
// node affinity, which are spelled the same.
type nodeSelector = metav1.LabelSelector

type bfdProfile struct {
	meta
	Spec struct {
		ReceiveInterval  *int64 `json:"receiveInterval"` // ms
		TransmitInterval *int64 `json:"transmitInterval"`
		DetectMultiplier int32  `json:"detectMultiplier"`
		PassiveMode      bool   `json:"passiveMode"`
	} `json:"spec"`
}

type community struct {
	meta
	Spec struct {
		Communities []struct {
			Name  string `json:"name"`
			Value string `json:"value"`
		} `json:"communities"`
	} `json:"spec"`
}

// meta is what every object has. Of the status nothing is read.
type meta struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Status            any `json:"status"`
}
