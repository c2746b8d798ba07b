module github.com/fairlead/fairlead/e2e

go 1.26.0

require github.com/spf13/cobra v1.10.2

replace github.com/fairlead/fairlead => ../

require (
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
)
