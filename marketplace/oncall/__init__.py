"""For people on call: vital signs, alarms, the doctor, and one rental explained."""
