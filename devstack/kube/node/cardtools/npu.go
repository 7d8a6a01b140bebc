package main

import (
	"fmt"
	"os"
)

// npu answers `npu-smi info`, `info -m`, and `info -t board|memory|usages -i CARD [-c CHIP]`.
func npu(arguments []string, all []card) int {
	options := map[string]string{}
	mapping := false
	if len(arguments) == 0 || arguments[0] != "info" {
		fmt.Fprintln(os.Stderr, "only `npu-smi info` is known here")
		return 1
	}
	for position := 1; position < len(arguments); position++ {
		switch word := arguments[position]; {
		case word == "-m":
			mapping = true
		case (word == "-t" || word == "-i" || word == "-c") && position+1 < len(arguments):
			position++
			options[word] = arguments[position]
		default:
			fmt.Fprintf(os.Stderr, "%s is not known here\n", word)
			return 1
		}
	}
	if options["-t"] == "" {
		return npuList(all, mapping)
	}
	for _, each := range all {
		if fmt.Sprint(each.Number) == options["-i"] && !each.Dead {
			return npuDetails(each, options["-t"])
		}
	}
	fmt.Fprintf(os.Stderr, "dcmi: no card %s\n", options["-i"])
	return 1
}

func npuList(all []card, mapping bool) int {
	if mapping {
		fmt.Printf("\t%-30s %-30s %-30s %s\n", "NPU ID", "Chip ID", "Chip Logic ID", "Chip Name")
	}
	for logic, each := range all {
		switch {
		case each.Dead:
		case mapping:
			fmt.Printf("\t%-30d %-30d %-30d Ascend %s\n", each.Number, 0, logic, each.Model)
			fmt.Printf("\t%-30d %-30d %-30s %s\n", each.Number, 1, "-", "Mcu")
		default:
			fmt.Printf("| %d  %s  %d / %d MB  %d C\n", each.Number, each.Model, each.UsedMiB, each.MemoryMiB, each.Celsius)
		}
	}
	return 0
}

func npuDetails(c card, kind string) int {
	row := func(key string, value any) { fmt.Printf("\t%-30s : %v\n", key, value) }
	row("NPU ID", c.Number)
	switch kind {
	case "board":
		row("Chip Name", c.Model)
		row("Serial Number", c.ID)
		row("Software Version", c.Driver)
	case "memory":
		row("HBM Capacity(MB)", c.MemoryMiB)
	case "usages":
		row("HBM Capacity(MB)", c.MemoryMiB)
		row("HBM Usage Rate(%)", 100*c.UsedMiB/c.MemoryMiB)
		row("Aicore Usage Rate(%)", c.Utilization)
	default:
		fmt.Fprintf(os.Stderr, "-t %s is not known here\n", kind)
		return 1
	}
	return 0
}
