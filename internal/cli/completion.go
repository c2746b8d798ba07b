package cli

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// patience is how long a person who presses Tab waits for the API server.
const patience = 2 * time.Second

// complete makes the completion of one word by the names that list returns.
func complete(list func(context.Context) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), patience)
		defer cancel()
		names, err := list(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, begun) })
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// balancers are the Services of type LoadBalancer in a namespace, or in all.
func (e *Env) balancers(ctx context.Context, namespace string) ([]corev1.Service, error) {
	c, err := e.Connect()
	if err != nil {
		return nil, err
	}
	list, err := c.Kube.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(s corev1.Service) bool { return s.Spec.Type != corev1.ServiceTypeLoadBalancer }), nil
}

// services lists the Services of type LoadBalancer: NAME with --namespace, otherwise
// NAMESPACE/NAME.
func (e *Env) services(ctx context.Context) (out []string, err error) {
	asked := e.asked()
	all, err := e.balancers(ctx, asked)
	for _, s := range all {
		if asked != "" {
			out = append(out, s.Name)
			continue
		}
		out = append(out, s.Namespace+"/"+s.Name)
	}
	return out, err
}

// frontends lists the addresses and ports of Services of type LoadBalancer.
func (e *Env) frontends(ctx context.Context) (out []string, err error) {
	all, err := e.balancers(ctx, e.asked())
	for _, s := range all {
		for _, in := range s.Status.LoadBalancer.Ingress {
			addr, ok := snapshot.ParseAddr(in.IP)
			if !ok {
				continue
			}
			for _, p := range s.Spec.Ports {
				text := netip.AddrPortFrom(addr, uint16(p.Port)).String()
				if p.Protocol != corev1.ProtocolTCP && p.Protocol != "" {
					text += "/" + strings.ToLower(string(p.Protocol))
				}
				out = append(out, fmt.Sprintf("%s\t%s/%s", text, s.Namespace, s.Name))
			}
		}
	}
	return out, err
}

func (e *Env) nodes(ctx context.Context) (out []string, err error) {
	c, err := e.Connect()
	if err != nil {
		return nil, err
	}
	list, err := c.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, n := range list.Items {
		out = append(out, n.Name)
	}
	return out, nil
}

// completeShared completes the flags for the cluster that people type.
func (e *Env) completeShared(cmd *cobra.Command, flags *genericclioptions.ConfigFlags) {
	_ = cmd.RegisterFlagCompletionFunc("namespace", complete(e.namespaces))
	_ = cmd.RegisterFlagCompletionFunc("context", complete(func(context.Context) ([]string, error) {
		config, err := flags.ToRawKubeConfigLoader().RawConfig()
		return slices.Sorted(maps.Keys(config.Contexts)), err
	}))
}

func (e *Env) namespaces(ctx context.Context) (out []string, err error) {
	c, err := e.Connect()
	if err != nil {
		return nil, err
	}
	list, err := c.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, n := range list.Items {
		out = append(out, n.Name)
	}
	return out, nil
}
