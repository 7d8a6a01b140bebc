// Command podtools is what gpuyard brings into a renter's pod: the way in, the check of the cards and
// the reporter.
//
// It is one static binary, copied by an init container into a volume that the renter's container
// mounts read-only, because images know nothing of us and may have neither a shell nor a package
// manager. It runs as whoever the image runs as, holds no power that the renter has not, and
// nothing it says is trusted for money.
//
//	podtools install DIR     copy this binary to DIR/podtools (the init container)
//	podtools check FILE CMD USAGE [PARTS READ] [DIR]  write down the cards that the vendor's command
//	                         shows and how much of them is in use (the check), or the parts of cards
//	                         that PARTS lists and READ reads, and install into DIR
//	podtools start FLAGS     leave the keeper in the container (its postStart hook)
//	podtools keep FLAGS      the keeper: run the SSH server and the reporter, start again what died
//	podtools sshd ADDR       the SSH server alone
//	podtools report ADDR     the reporter alone; ADDR is the SSH server's, or ""
//	podtools bench FLAGS     in a pod of its own: what a machine of one card does, into a file
//	podtools probe FLAGS     in a pod of its own: what a renter's pod would reach, into a file
//	podtools relay FLAGS     in a provider's cluster: the way from the gateway to its pods, and with
//	                         -commands the agent that executes the platform's commands there
//
// Keys are read from the folder that $GPUYARD_KEYS names (a mounted Secret): host-key, the
// server's private key, and gateway.pub, the one public key that may come in. The reporter runs
// where $GPUYARD_REPORT_URL says where to.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := dispatch(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gpuyard:", err)
		os.Exit(1)
	}
}

func dispatch(words []string) error {
	if len(words) == 0 {
		return usage()
	}
	switch name, rest := words[0], words[1:]; {
	case name == "install" && len(rest) == 1:
		return install(rest[0])
	case name == "check" && len(rest) >= 3 && len(rest) <= 6:
		parts, into := split{}, rest[3:]
		if len(into) >= 2 {
			parts, into = split{into[0], into[1]}, into[2:]
		}
		if err := check(rest[0], rest[1], rest[2], parts); err != nil || len(into) == 0 {
			return err
		}
		return install(into[0])
	case name == "start":
		return start(rest)
	case name == "keep":
		return keep(rest)
	case name == "sshd" && len(rest) == 1:
		return serve(rest[0])
	case name == "report" && len(rest) == 1:
		return report(rest[0])
	case name == "bench":
		return bench(rest)
	case name == "probe":
		return probe(rest)
	case name == "relay":
		return relay(rest)
	}
	return usage()
}

func usage() error {
	return fmt.Errorf("usage: podtools install DIR | check FILE CMD USAGE [PARTS READ] [DIR] | start FLAGS | keep FLAGS | sshd ADDR | report ADDR | bench FLAGS | probe FLAGS | relay FLAGS")
}
