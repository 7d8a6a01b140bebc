package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A packet that a policy drops is never answered; what is there answers within a cluster at once.
const probeWait = 4 * time.Second

// try is one address that was connected to. Verdict "open": it answered; "refused": somebody said
// no, the address or what stands before it; "closed": nothing came back.
type try struct {
	What    string `json:"what"`
	Address string `json:"address"`
	Verdict string `json:"verdict"`
}

// probe writes down what a pod in its place reaches: of what renters must not, the API server, its
// node and the metadata service; of what they need, names and the platform. It sends nothing but
// the beginning of a connection, and judges nothing.
func probe(words []string) error {
	flags := flag.NewFlagSet("probe", flag.ContinueOnError)
	message := flags.String("message", "/dev/termination-log", "where the result goes")
	outside := flags.String("outside", "", "host:port that renters need; \"\": none")
	if err := flags.Parse(words); err != nil {
		return err
	}
	host := os.Getenv("GPUYARD_HOST_IP")
	wanted := []try{
		{"api", address(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")), ""},
		{"kubelet", address(host, "10250"), ""},
		{"node", address(host, "22"), ""},
		{"metadata", "169.254.169.254:80", ""},
		{"outside", *outside, ""},
	}
	var all sync.WaitGroup
	for number := range wanted {
		all.Add(1)
		go func(each *try) {
			defer all.Done()
			each.Verdict = reaches(each.Address)
		}(&wanted[number])
	}
	all.Wait()
	result := map[string]interface{}{"version": benchVersion, "tries": wanted}
	told, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return os.WriteFile(*message, told, 0o644)
}

func address(host, port string) string {
	if host == "" || port == "" {
		return ""
	}
	return net.JoinHostPort(host, port)
}

// reaches is "" where there is no address to try.
func reaches(address string) string {
	if address == "" {
		return ""
	}
	patience, cancel := context.WithTimeout(context.Background(), probeWait)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(patience, "tcp", address)
	var name *net.DNSError
	switch {
	case err == nil:
		conn.Close()
		return "open"
	case errors.As(err, &name):
		return "no_name"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	}
	return "closed"
}
