// Package charts holds the Helm chart.
package charts

import "embed"

// CRDs has the definitions of fairlead's kinds, as the chart installs them.
//
//go:embed fairlead/files/crds/*.yaml
var CRDs embed.FS
