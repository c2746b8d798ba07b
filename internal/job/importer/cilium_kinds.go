package importer

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// The kinds of Cilium (group cilium.io, v2alpha1 and v2), as far as they have an equal.

type ciliumPool struct {
	meta
	Spec struct {
		Blocks            []ciliumBlock         `json:"blocks"`
		CIDRs             []ciliumBlock         `json:"cidrs"` // before Cilium 1.15
		ServiceSelector   *metav1.LabelSelector `json:"serviceSelector"`
		AllowFirstLastIPs string                `json:"allowFirstLastIPs"`
		Disabled          bool                  `json:"disabled"`
	} `json:"spec"`
}

// ciliumBlock is a CIDR, or a range whose stop may be missing.
type ciliumBlock struct {
	CIDR  string `json:"cidr"`
	Start string `json:"start"`
	Stop  string `json:"stop"`
}

type ciliumPolicy struct {
	meta
	Spec struct {
		ServiceSelector *metav1.LabelSelector `json:"serviceSelector"`
		NodeSelector    *metav1.LabelSelector `json:"nodeSelector"`
		Interfaces      []string              `json:"interfaces"`
		LoadBalancerIPs bool                  `json:"loadBalancerIPs"`
	} `json:"spec"`
}

type ciliumCluster struct {
	meta
	Spec struct {
		NodeSelector *metav1.LabelSelector `json:"nodeSelector"`
		BGPInstances []struct {
			Name     string       `json:"name"`
			LocalASN int64        `json:"localASN"`
			Peers    []ciliumPeer `json:"peers"`
		} `json:"bgpInstances"`
	} `json:"spec"`
}

type ciliumPeer struct {
	Name          string `json:"name"`
	PeerASN       int64  `json:"peerASN"`
	PeerAddress   string `json:"peerAddress"`
	PeerConfigRef struct {
		Name string `json:"name"`
	} `json:"peerConfigRef"`
}

type ciliumPeerConfig struct {
	meta
	Spec struct {
		Transport struct {
			PeerPort int32 `json:"peerPort"`
		} `json:"transport"`
		Timers struct {
			ConnectRetryTimeSeconds *int32 `json:"connectRetryTimeSeconds"`
			HoldTimeSeconds         *int32 `json:"holdTimeSeconds"`
			KeepAliveTimeSeconds    *int32 `json:"keepAliveTimeSeconds"`
		} `json:"timers"`
		AuthSecretRef   string `json:"authSecretRef"`
		GracefulRestart struct {
			Enabled            bool   `json:"enabled"`
			RestartTimeSeconds *int32 `json:"restartTimeSeconds"`
		} `json:"gracefulRestart"`
		EBGPMultihop int32 `json:"ebgpMultihop"`
		Families     []struct {
			Advertisements *metav1.LabelSelector `json:"advertisements"`
		} `json:"families"`
	} `json:"spec"`
}

type ciliumAdvertisement struct {
	meta
	Spec struct {
		Advertisements []struct {
			AdvertisementType string `json:"advertisementType"`
			Service           struct {
				Addresses []string `json:"addresses"`
			} `json:"service"`
			Selector   *metav1.LabelSelector `json:"selector"`
			Attributes struct {
				Communities struct {
					Standard  []string `json:"standard"`
					Large     []string `json:"large"`
					WellKnown []string `json:"wellKnown"`
				} `json:"communities"`
				LocalPreference *int64 `json:"localPreference"`
			} `json:"attributes"`
		} `json:"advertisements"`
	} `json:"spec"`
}
